//! Where the control group that this process is in is found in the file system. For the spawner, and for whoever wants
//! to know beforehand what it will find.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Why there is no such folder.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGroup {
    #[error("{0}")]
    Unreadable(String),
    #[error("this machine has no control groups of version 2")]
    NotMounted,
    /// Version 2 is mounted there, but not the part of it that this process is in.
    #[error("this machine has no control groups of version 2")]
    Outside(PathBuf),
}

/// The group's folder.
///
/// # Errors
/// [`NoGroup`]
pub fn own_group() -> Result<PathBuf, NoGroup> {
    let unreadable = |path: &str, error| NoGroup::Unreadable(format!("{path} can't be read: {error}"));
    let read = |path: &str| std::fs::read(path).map_err(|error| unreadable(path, error));
    place(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
}

/// Where the group that `own` (`/proc/self/cgroup`) names is in the file system that `mounts` tells of.
fn place(mounts: &[u8], own: &[u8]) -> Result<PathBuf, NoGroup> {
    let group = own.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    let mounted: Vec<_> = mounts.split(|byte| *byte == b'\n').filter_map(mounted).collect();
    let found = mounted.iter().find_map(|(root, at)| below(root, at, group?));
    found.ok_or_else(|| match mounted.into_iter().next() {
        Some((_, at)) => NoGroup::Outside(at),
        None => NoGroup::NotMounted,
    })
}

/// Which part of version 2 a line of `/proc/self/mountinfo` tells of, and where that is.
fn mounted(line: &[u8]) -> Option<(Vec<u8>, PathBuf)> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let is_v2 = *fields.get(separator + 1)? == b"cgroup2";
    let at = PathBuf::from(OsString::from_vec(unescaped(fields.get(4)?)));
    is_v2.then_some((unescaped(fields.get(3)?), at))
}

/// `None`: the group is outside of what is mounted. A part of the tree may be; `..` leads out of what this process may
/// see.
fn below(root: &[u8], at: &Path, group: &[u8]) -> Option<PathBuf> {
    let rest = if root == b"/" { group } else { group.strip_prefix(root)? };
    let inside = rest.is_empty() || rest.starts_with(b"/") && !rest.starts_with(b"/..");
    let relative = PathBuf::from(OsString::from_vec(rest.to_vec()));
    let path = at.join(relative.strip_prefix("/").unwrap_or(&relative));
    // Joining nothing would leave a slash.
    inside.then(|| path.components().collect())
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
        place(mounts, own.as_bytes()).ok().map(|path| path.display().to_string())
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

    #[test]
    fn what_is_not_mounted_is_told_from_what_lies_outside() {
        let v1 = b"31 23 0:27 / /x rw - cgroup cgroup rw\n";
        assert_eq!(place(v1, b"0::/\n"), Err(NoGroup::NotMounted));
        for (root, group, folder) in [
            ("/", "/", Some("/m")),
            ("/", "/a/b", Some("/m/a/b")),
            ("/a", "/a/b", Some("/m/b")),
            ("/a", "/ab", None),
            ("/", "/../a", None),
        ] {
            let mounts = format!(
                "30 23 0:26 {root} /m rw,nosuid shared:4 - cgroup2 cgroup2 rw\n31 23 0:27 / /x rw - cgroup cgroup rw,cpu\n"
            );
            let found = place(mounts.as_bytes(), format!("3:cpu:/c\n0::{group}\n").as_bytes());
            assert_eq!(found, folder.map(PathBuf::from).ok_or(NoGroup::Outside("/m".into())), "{root} {group}");
        }
    }
}
