//! Where the control group that this process is in is found in the file system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The group's folder, or one sentence why there is none.
pub(crate) fn own_group() -> Result<PathBuf, String> {
    let read = |path: &str| std::fs::read(path).map_err(|error| format!("{path} can't be read: {error}"));
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    place(&mounts, &own).ok_or_else(|| "this machine has no control groups of version 2".to_owned())
}

/// Where the group that `own` (`/proc/self/cgroup`) names is in the file system that `mounts` tells of.
fn place(mounts: &[u8], own: &[u8]) -> Option<PathBuf> {
    let group = own.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        if *fields.get(separator + 1)? != b"cgroup2" {
            return None;
        }
        let (root, at) = (unescaped(fields.get(3)?), unescaped(fields.get(4)?));
        // A part of the tree may be mounted; `..` leads out of what this process may see.
        let rest = if root == b"/" { group } else { group.strip_prefix(root.as_slice())? };
        let inside = rest.is_empty() || rest.starts_with(b"/") && !rest.starts_with(b"/..");
        let relative = PathBuf::from(OsString::from_vec(rest.to_vec()));
        let path = PathBuf::from(OsString::from_vec(at)).join(relative.strip_prefix("/").unwrap_or(&relative));
        // Joining nothing would leave a slash.
        inside.then(|| path.components().collect())
    })
}

/// Blanks and the like are written as octal numbers there.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw shared:9 - cgroup2 cgroup2 rw\n";

    fn placed(mounts: &[u8], own: &str) -> Option<String> {
        place(mounts, own.as_bytes()).map(|path| path.display().to_string())
    }

    #[test]
    fn the_own_group_is_found_wherever_it_is_mounted() {
        assert_eq!(placed(HYBRID, "4:memory:/x\n0::/\n").unwrap(), "/sys/fs/cgroup/uni fied");
        assert_eq!(placed(HYBRID, "0::/a.slice/b\n").unwrap(), "/sys/fs/cgroup/uni fied/a.slice/b");
        let part = b"41 31 0:38 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(placed(part, "0::/docker/x/y").unwrap(), "/sys/fs/cgroup/y");
        assert_eq!(placed(part, "0::/docker/xy"), None);
        assert_eq!(placed(HYBRID, "0::/../outside"), None);
        assert_eq!(placed(HYBRID, "4:memory:/x\n"), None);
        assert_eq!(placed(b"", "0::/"), None);
    }
}
