//! The control group that a worker is alone in, made by the spawner. Where it can't be written or read, the keeper's
//! other ways (process groups, the sweep by marks) do alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn at(path: Vec<u8>) -> Self {
        Self(OsString::from_vec(path).into())
    }

    /// Kills every process in it. False: it can't be told to, as before Linux 5.14.
    pub(super) fn kill(&self) -> bool {
        write(&self.0.join("cgroup.kill"), b"1").is_ok()
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.trim().parse::<u64>().ok()).is_some_and(|kills| kills > 0)
    }

    /// Removes it, and the pool's that it is in, as far as nothing is in them any more.
    pub(super) fn remove(&self) {
        // The spawner does that too, and was faster unless it died; what isn't empty can't be removed by anybody.
        let _ = fs::remove_dir(&self.0);
        if let Some(pool) = self.0.parent().filter(|pool| pool.file_name().is_some_and(is_pools)) {
            let _ = fs::remove_dir(pool);
        }
    }
}

fn is_pools(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"hatchery-")
}

/// In one write, and never into a file of another kind that would be made for it.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn group(folder: &Path) -> Cgroup {
        Cgroup::at(folder.as_os_str().as_bytes().to_vec())
    }

    #[test]
    fn only_a_kill_that_the_kernel_counted_is_one_for_want_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        let group = group(folder.path());
        assert!(!group.ran_out_of_memory(), "there is no such file without the controller");
        for (events, expected) in [
            ("low 0\nhigh 4\nmax 9\noom 2\noom_kill 0\noom_group_kill 0\n", false),
            ("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n", true),
            ("oom_kill many\n", false),
        ] {
            fs::write(folder.path().join("memory.events"), events).unwrap();
            assert_eq!(group.ran_out_of_memory(), expected, "{events}");
        }
    }

    #[test]
    fn a_group_that_is_gone_is_no_error_and_no_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!group(folder.path()).kill());
        assert!(!folder.path().join("cgroup.kill").exists());
        group(&folder.path().join("gone")).remove();
    }
}
