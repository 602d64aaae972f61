//! What can be done with control groups here: below the group that this process is in, as a pool that is started
//! like it would try.

use super::Finding;
use super::machine::{CGROUP_KILL, Kernel};
use hatchery_spawner::mounts::{self, NoGroup};
use rustix::process::geteuid;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "cgroup";
const KILL: &str = "cgroup.kill";
/// Controllers, and the keys that need them.
const CONTROLLERS: [(&str, &str); 3] = [("memory", "memory_max"), ("cpu", "cpu_max"), ("pids", "pids_max")];
const DELEGATE: &str = "start the pool in a delegated group (systemd: Delegate=yes), or name one with `cgroup`";

pub(super) fn findings() -> Vec<Finding> {
    let group = match mounts::own_group() {
        Ok(group) => group,
        Err(NoGroup::Outside(mount)) => {
            let what = format!("{} is mounted, but not the group that this process is in", mount.display());
            return vec![Finding::lacks(NAME, what, DELEGATE)];
        }
        Err(NoGroup::NotMounted | NoGroup::Unreadable(_)) => {
            let what = "no cgroup v2 is mounted, so a worker's processes are found one by one, and it has no limits as a whole";
            return vec![Finding::lacks(NAME, what, "mount it: mount -t cgroup2 none /sys/fs/cgroup")];
        }
    };
    let mut findings = subgroup(&group);
    findings.extend(CONTROLLERS.iter().map(|(controller, key)| limit(&group, controller, key)));
    findings
}

fn subgroup(group: &Path) -> Vec<Finding> {
    let shown = group.display();
    let made = Trial::make(group);
    let trial = match made {
        Ok(trial) => trial,
        Err(error) => {
            let costs = "workers get no group of their own, and what they leave behind is looked for one by one";
            return vec![Finding::lacks(
                NAME,
                format!("no group can be made below {shown} ({error}): {costs}"),
                DELEGATE,
            )];
        }
    };
    let can_kill = trial.0.join(KILL).exists();
    let kill = match (can_kill, Kernel::running()) {
        (true, _) => Finding::ok(KILL, "a worker and all that it started is killed at once"),
        (false, kernel) => Finding::lacks(
            KILL,
            "there is none, so a worker's processes are killed one by one",
            if kernel.is_some_and(|kernel| kernel < CGROUP_KILL) {
                "use Linux 5.14 or newer"
            } else {
                "let the pool see cgroup.kill in its container"
            },
        ),
    };
    vec![Finding::ok(NAME, format!("version 2; each worker can have a group of its own below {shown}")), kill]
}

/// A group that was made to see whether it can be; removed again.
struct Trial(PathBuf);

impl Trial {
    fn make(group: &Path) -> io::Result<Self> {
        let path = group.join(format!("hatchery-doctor-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Nothing was put into it, so that nothing keeps it.
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn limit(group: &Path, controller: &str, key: &'static str) -> Finding {
    let shown = group.display();
    let has = |file: &str| {
        let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
        text.split_whitespace().any(|word| word == controller)
    };
    let lacks = |why: String, remedy: &str| Finding::lacks(key, format!("{why}, so it can't be applied"), remedy);
    if !has("cgroup.controllers") {
        return lacks(format!("the controller {controller} is not delegated to {shown}"), DELEGATE);
    }
    if has("cgroup.subtree_control") {
        return Finding::ok(key, format!("the controller {controller} is there for groups below {shown}"));
    }
    let control = group.join("cgroup.subtree_control");
    if rustix::fs::access(&control, rustix::fs::Access::WRITE_OK).is_err() {
        return lacks(format!("{} may not be written by user {}", control.display(), geteuid().as_raw()), DELEGATE);
    }
    let others = other_processes(group);
    // Only the root of all groups may have processes beside groups with limits; it has no type.
    if others == 0 || !group.join("cgroup.type").exists() {
        return Finding::ok(
            key,
            format!("the controller {controller} is delegated to {shown}, where a pool can use it"),
        );
    }
    let processes = if others == 1 { "another process is" } else { "other processes are" };
    lacks(format!("{processes} in {shown} itself, where the controller {controller} could be used"), DELEGATE)
}

/// Processes directly in this group besides this one. A pool moves its own out of the way, but nobody else's: not
/// the shell either that it is started from.
fn other_processes(group: &Path) -> usize {
    let listed = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id();
    listed.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != own).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group.
    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_controller_is_there_delegated_or_lacking_with_the_reason() {
        let said = |files: &[(&str, &str)]| limit(group(files).path(), "memory", "memory_max").line();
        let given = ("cgroup.controllers", "cpu memory");
        assert!(said(&[]).contains("memory is not delegated"));
        assert!(said(&[given, ("cgroup.subtree_control", "memory")]).starts_with("ok     memory_max"));
        let alone = said(&[given, ("cgroup.subtree_control", ""), ("cgroup.procs", ""), ("cgroup.type", "domain")]);
        assert!(alone.starts_with("ok     memory_max"), "{alone}");
        let beside =
            said(&[given, ("cgroup.subtree_control", ""), ("cgroup.procs", "1\n2"), ("cgroup.type", "domain")]);
        assert!(beside.contains("other processes are in"), "{beside}");
    }
}
