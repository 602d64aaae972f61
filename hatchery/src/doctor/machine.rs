//! Kernel, rights, users, descriptors, `/proc`, folders.

use super::Finding;
use crate::admin_place;
use nix::unistd::User;
use rustix::process::{PidfdFlags, Resource, geteuid, getpid, getrlimit, pidfd_open};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Without these calls nothing runs.
const NEEDED: Kernel = Kernel(5, 11);
/// Kills a whole control group at once.
pub(super) const CGROUP_KILL: Kernel = Kernel(5, 14);
/// Below this, a front end runs into the limit before its pool does.
const ENOUGH_FILES: u64 = 4096;
/// Capabilities by number: what a privileged pool does with them.
const CAPABILITIES: [(u32, &str); 5] = [(0, "CHOWN"), (1, "DAC_OVERRIDE"), (5, "KILL"), (6, "SETGID"), (7, "SETUID")];

pub(super) fn findings() -> Vec<Finding> {
    vec![
        kernel(),
        privileges(),
        nobody(),
        pool_user(),
        namespaces(),
        pidfd(),
        open_files(),
        proc_mount(),
        admin_folder(),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kernel(pub(super) u32, pub(super) u32);

impl Kernel {
    /// The first two numbers of `6.18.2-arch1`.
    fn read(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    pub(super) fn running() -> Option<Self> {
        Self::read(&release())
    }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn kernel() -> Finding {
    let release = release();
    match Kernel::read(&release) {
        Some(kernel) if kernel >= NEEDED => Finding::ok("kernel", format!("Linux {release}; 5.11 is needed")),
        _ => Finding::lacks(
            "kernel",
            format!("Linux {release} is too old: no pool can be started"),
            "use a machine with Linux 5.11 or newer",
        ),
    }
}

fn privileges() -> Finding {
    if !geteuid().is_root() {
        let user = User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| format!("user {}", geteuid().as_raw()), |user| user.name);
        return Finding::lacks(
            "privileges",
            format!("run as {user}, so all applications would run as {user} too, and could reach each other's files"),
            "start the pool as root to have each run as its own user",
        );
    }
    let missing: Vec<&str> = match effective_capabilities() {
        Some(held) => CAPABILITIES.iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name).collect(),
        None => Vec::new(),
    };
    if missing.is_empty() {
        Finding::ok("privileges", "root: each application can run as its own user")
    } else {
        Finding::lacks(
            "privileges",
            format!("root, but without {}: applications can't be given users of their own", missing.join(", ")),
            "give the container or service these capabilities, or start the pool as an ordinary user",
        )
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}

fn nobody() -> Finding {
    match User::from_name("nobody") {
        Ok(Some(user)) if !user.uid.is_root() => {
            Finding::ok("nobody", format!("user {}, for applications of root and of nobody known", user.uid))
        }
        found => Finding::lacks(
            "nobody",
            format!(
                "there is {}: a pool of root won't start applications that belong to root or to nobody known",
                if matches!(found, Ok(Some(_))) { "one, but it is root" } else { "no such user" }
            ),
            "make the user, or name another with lowest_user",
        ),
    }
}

fn pool_user() -> Finding {
    match User::from_name("hatchery") {
        Ok(Some(user)) => Finding::ok("pool_user", format!("hatchery, user {}", user.uid)),
        _ => Finding::ok("pool_user", "no user hatchery; a pool of root takes an unused user id"),
    }
}

fn namespaces() -> Finding {
    Finding::ok("user namespaces", "not needed: applications are kept apart by their users")
}

fn pidfd() -> Finding {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok("pidfd", "processes are watched and signalled without mistaking one for another"),
        Err(errno) => Finding::lacks(
            "pidfd",
            format!("pidfd_open is refused ({errno}): a front end does not notice at once that its pool is gone"),
            "permit the call in the sandbox or container that this runs in",
        ),
    }
}

fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    let shown = |value: Option<u64>| value.map_or_else(|| "no limit".to_owned(), |value| value.to_string());
    let what = format!("{}, which can be raised to {}", shown(limit.current), shown(limit.maximum));
    if limit.maximum.is_none_or(|most| most >= ENOUGH_FILES) {
        Finding::ok("open files", what)
    } else {
        Finding::lacks(
            "open files",
            format!("{what}: each connection takes up to three, so that clients will have to wait"),
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= of the service)",
        )
    }
}

fn proc_mount() -> Finding {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match hidepid(&mounts) {
        None => Finding::lacks(
            "/proc",
            "it is not mounted: workers' memory is not known, and what they leave behind is not found",
            "mount it: mount -t proc proc /proc",
        ),
        Some("0" | "off") => Finding::ok("/proc", "mounted, and every process is seen"),
        Some(hidden) if geteuid().is_root() => Finding::ok(
            "/proc",
            format!("mounted with hidepid={hidden}, which root sees through; applications don't see each other"),
        ),
        Some(hidden) => Finding::ok("/proc", format!("mounted with hidepid={hidden}; a user's own processes are seen")),
    }
}

/// The option of the last mount at `/proc`; `0` if it has none.
fn hidepid(mountinfo: &str) -> Option<&str> {
    let of_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    let line = mountinfo.lines().rfind(of_proc)?;
    let (_, rest) = line.split_once(" - ")?;
    let mut fields = rest.split(' ');
    if fields.next() != Some("proc") {
        return None;
    }
    let options = fields.nth(1).unwrap_or_default();
    Some(options.split(',').find_map(|option| option.strip_prefix("hidepid=")).unwrap_or("0"))
}

fn admin_folder() -> Finding {
    let folder = admin_place::folders().remove(0);
    let shown = folder.display();
    let elsewhere = "set XDG_RUNTIME_DIR to a folder of your own, or say --admin none";
    match std::fs::symlink_metadata(&folder) {
        Ok(found) if found.is_dir() && found.uid() == geteuid().as_raw() => {
            Finding::ok("admin socket", format!("in {shown}"))
        }
        Ok(_) => Finding::lacks(
            "admin socket",
            format!("{shown} is no folder of this user's, so no pool can be started"),
            format!("remove it, or {elsewhere}"),
        ),
        Err(_) if can_be_made(&folder) => {
            Finding::ok("admin socket", format!("in {shown}, which the first pool makes"))
        }
        Err(_) => {
            Finding::lacks("admin socket", format!("{shown} can't be made, so no pool can be started"), elsewhere)
        }
    }
}

fn can_be_made(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    folder.parent().is_some_and(|parent| access(parent, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_their_first_two_numbers() {
        assert_eq!(Kernel::read("6.18.2-arch1"), Some(Kernel(6, 18)));
        assert_eq!(Kernel::read("5.9+"), Some(Kernel(5, 9)));
        assert_eq!(Kernel::read("next"), None);
        assert!(Kernel(5, 9) < NEEDED && NEEDED < CGROUP_KILL && CGROUP_KILL < Kernel(6, 1));
    }

    #[test]
    fn hidepid_is_read_from_the_last_mount_of_proc() {
        let line = |options: &str| format!("22 1 0:20 / /proc rw,nosuid - proc proc {options}\n");
        assert_eq!(hidepid(&line("rw")), Some("0"));
        assert_eq!(hidepid(&(line("rw") + &line("rw,hidepid=invisible"))), Some("invisible"));
        assert_eq!(hidepid("23 1 0:21 / /sys rw - sysfs sysfs rw\n"), None);
        assert_eq!(hidepid("22 1 0:20 / /proc rw - tmpfs tmpfs rw\n"), None);
    }
}
