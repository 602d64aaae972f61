//! Who keeper and core are, what belongs to whom, and what is left at the end: through real processes.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use support::{NOBODY, Pool, Start, folder, is_root, says, status, until};

const CAP_SETGID: u64 = 6;
const CAP_SETUID: u64 = 7;
const CAP_SYS_PTRACE: u64 = 19;

fn owner(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

fn assert_is(pid: i32, uid: u32, gid: u32) {
    assert_eq!(status(pid, "Uid"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(status(pid, "Gid"), format!("{gid} {gid} {gid} {gid}"));
    assert_eq!(status(pid, "Groups"), "");
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
}

/// Whether a command can tell what a process executes; only who may trace it can.
fn looks_into(pid: i32, prepare: impl FnOnce(&mut Command)) -> bool {
    let mut command = Command::new("readlink");
    prepare(command.arg(format!("/proc/{pid}/exe")));
    let output = command.output().expect("readlink");
    output.status.success() && !output.stdout.is_empty()
}

/// A process of somebody's, killed when this is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn of(uid: u32, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sleep");
        prepare(command.arg("1000").uid(uid).gid(uid));
        Self(command.spawn().expect("sleep"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(pool: &Pool) -> (u32, u32) {
    pool.pool_user.expect("a privileged pool has a user of its own")
}

#[test]
fn the_core_is_a_user_that_nobody_else_is_and_the_keeper_stays_root() {
    if !is_root("the_core_is_a_user_that_nobody_else_is_and_the_keeper_stays_root") {
        return;
    }
    let pool = Start::new().must();
    let (uid, gid) = told(&pool);
    match User::from_name("hatchery").unwrap() {
        Some(user) => assert_eq!(uid, user.uid.as_raw()),
        None => {
            assert!((61184..=65519).contains(&uid) && gid == uid, "{uid} {gid}");
            assert_eq!(User::from_uid(uid.into()).unwrap(), None);
        }
    }
    pool.serves();
    assert_is(pool.core(), uid, gid);
    assert_eq!(status(pool.keeper, "Uid"), "0 0 0 0");
    assert_eq!(pool.told(), format!("[{uid}] Some({uid})"));

    let other = Start::new().must();
    if told(&other).0 != User::from_name("hatchery").unwrap().map_or(0, |user| user.uid.as_raw()) {
        assert_ne!(told(&other), (uid, gid), "two pools that run at the same time");
    }
}

#[test]
fn neither_keeper_nor_core_can_be_looked_into() {
    if !is_root("neither_keeper_nor_core_can_be_looked_into") {
        return;
    }
    let pool = Start::new().must();
    let (uid, gid) = told(&pool);
    pool.serves();
    let core = pool.core();
    assert_eq!(owner(&PathBuf::from(format!("/proc/{core}/environ"))).0, 0, "not that of its own user");
    // What another process of that user's would be like.
    let sleeper = Sleeper::of(uid, |_| ());
    let as_its_user = |command: &mut Command| {
        command.uid(uid).gid(gid);
    };
    until("it has become that user's", || looks_into(sleeper.pid(), as_its_user).then_some(()));
    assert!(!looks_into(core, as_its_user));

    assert!(looks_into(core, |_| ()), "root may");

    // As in a container: not even root may there, unless the process lets it.
    let pool = Start::new().without(&[CAP_SYS_PTRACE]).must();
    pool.serves();
    let without = |command: &mut Command| support::without(command, &[CAP_SYS_PTRACE]);
    let sleeper = Sleeper::of(0, without);
    until("it executes", || looks_into(sleeper.pid(), without).then_some(()));
    assert!(!looks_into(pool.keeper, without));
    assert!(!looks_into(pool.core(), without));
}

#[test]
fn the_runtime_folder_is_the_pool_users_and_everybody_may_pass() {
    if !is_root("the_runtime_folder_is_the_pool_users_and_everybody_may_pass") {
        return;
    }
    let pool = Start::new().must();
    let (uid, gid) = told(&pool);
    pool.serves();
    assert_eq!(owner(&pool.base()), (0, 0, 0o711));
    assert_eq!(owner(&pool.runtime_folder()), (uid, gid, 0o711));
    let notify = pool.runtime_folder().join("notify");
    assert_eq!(owner(&notify), (uid, gid, 0o711));
    let passes = Command::new("test").arg("-x").arg(&notify).uid(NOBODY).gid(NOBODY).status().unwrap();
    assert!(passes.success());
    assert_eq!(owner(&pool.runtime_folder().join("core")), (uid, gid, 0o700));

    let (admin, runtime) = (pool.admin.clone(), pool.runtime_folder());
    assert_eq!(owner(&admin), (0, 0, 0o600));
    assert!(says(&admin, "help\n").ends_with("ok\n"));
    let folder = pool.end();
    assert!(!runtime.exists() && !admin.exists());
    assert_eq!(fs::read_dir(folder.path().join("hatchery")).unwrap().count(), 0, "nothing is left behind");
}

// As below root's own XDG_RUNTIME_DIR, /run/user/0.
#[test]
fn where_others_can_not_enter_the_folder_stands_elsewhere_and_the_admin_socket_stays() {
    if !is_root("where_others_can_not_enter_the_folder_stands_elsewhere_and_the_admin_socket_stays") {
        return;
    }
    let start = Start::new();
    fs::set_permissions(start.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let pool = start.must();
    pool.serves();
    assert!(!pool.runtime_folder().exists());
    let elsewhere = Path::new("/run/hatchery").join(format!("hatchery-{}", pool.id));
    assert_eq!(owner(&elsewhere).0, told(&pool).0);
    assert!(pool.admin.starts_with(pool.folder.path()));
    drop(pool);
    assert!(!elsewhere.exists());
}

#[test]
fn a_core_that_was_killed_comes_back_as_the_same_user() {
    if !is_root("a_core_that_was_killed_comes_back_as_the_same_user") {
        return;
    }
    let pool = Start::new().must();
    let (uid, gid) = told(&pool);
    pool.serves();
    let first = pool.core();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    until("there is another core", || (pool.core() != first).then_some(()));
    pool.serves();
    assert_is(pool.core(), uid, gid);
}

#[test]
fn a_user_that_is_named_is_taken_by_name_and_by_number() {
    if !is_root("a_user_that_is_named_is_taken_by_name_and_by_number") {
        return;
    }
    let daemon = User::from_name("daemon").unwrap().expect("every Linux has it");
    let (uid, gid) = (daemon.uid.as_raw(), daemon.gid.as_raw());
    for name in ["daemon".to_owned(), uid.to_string()] {
        let pool = Start::new().pool_user(&name).must();
        assert_eq!(told(&pool), (uid, gid), "{name}");
        pool.serves();
        assert_is(pool.core(), uid, gid);
        assert_eq!(owner(&pool.runtime_folder()), (uid, gid, 0o711));
    }
}

#[test]
fn a_user_that_is_unknown_or_root_is_refused_in_one_sentence_and_nothing_is_left() {
    if !is_root("a_user_that_is_unknown_or_root_is_refused_in_one_sentence_and_nothing_is_left") {
        return;
    }
    for (name, expected) in [
        ("no-such-user", "the pool user no-such-user is not known here: create it (`useradd --system no-such-user`)"),
        ("root", "the pool user root is root: name another with --pool-user"),
        ("0", "the pool user 0 is root: name another with --pool-user"),
    ] {
        let why = Start::new().pool_user(name).refused();
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn root_that_may_not_become_another_is_told_so_at_the_start() {
    if !is_root("root_that_may_not_become_another_is_told_so_at_the_start") {
        return;
    }
    let why = Start::new().without(&[CAP_SETUID, CAP_SETGID]).refused();
    assert!(why.starts_with("the pool can't become user ") && why.contains("capabilities SETUID and SETGID"), "{why}");
}

#[test]
fn the_log_is_opened_before_its_folder_is_out_of_reach() {
    if !is_root("the_log_is_opened_before_its_folder_is_out_of_reach") {
        return;
    }
    let private = tempfile::tempdir().unwrap();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let log = private.path().join("pool.log");
    let pool = Start::new().log(&log).must();
    let (uid, gid) = told(&pool);
    pool.serves();
    let line = format!("runs as user {uid} and group {gid} from now on");
    until("the log says so", || fs::read_to_string(&log).unwrap().contains(&line).then_some(()));
}

#[test]
fn the_output_folder_is_made_for_the_pool_user_stays_and_is_found_again() {
    if !is_root("the_output_folder_is_made_for_the_pool_user_stays_and_is_found_again") {
        return;
    }
    let place = folder();
    let output = place.path().join("output");
    let pool = Start::new().output(&output).must();
    let user = told(&pool);
    pool.serves();
    assert_eq!(owner(&output), (user.0, user.1, 0o750));
    drop(pool);
    assert_eq!(owner(&output), (user.0, user.1, 0o750), "it stays");
    // Who wrote there once goes on there, though every pool has a user of its own.
    let pool = Start::new().output(&output).must();
    assert_eq!(told(&pool), user);
    pool.serves();
}

#[test]
fn an_output_folder_of_somebody_elses_is_refused_at_the_start() {
    if !is_root("an_output_folder_of_somebody_elses_is_refused_at_the_start") {
        return;
    }
    let place = folder();
    let output = place.path().join("output");
    fs::create_dir(&output).unwrap();
    let why = Start::new().output(&output).pool_user("daemon").refused();
    assert!(why.contains(&format!("{} belongs to user 0 (mode 0755)", output.display())), "{why}");
    assert!(why.contains("chown it to the user that --pool-user names"), "{why}");
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&output, &link).unwrap();
    let why = Start::new().output(&link).pool_user("daemon").refused();
    assert!(why.contains("is a symbolic link"), "{why}");
}

/// As whom an unprivileged pool is tried.
fn ordinary(start: Start) -> Start {
    if nix::unistd::geteuid().is_root() { start.user(NOBODY) } else { start }
}

#[test]
fn an_ordinary_users_pool_stays_that_users() {
    let start = ordinary(Start::new());
    let output = start.folder.path().join("output");
    let pool = start.output(&output).must();
    assert_eq!(pool.pool_user, None);
    pool.serves();
    let uid = status(pool.keeper, "Uid");
    assert_eq!(status(pool.core(), "Uid"), uid);
    let own: u32 = uid.split(' ').next().unwrap().parse().unwrap();
    assert_ne!(own, 0);
    assert_eq!(pool.told(), "[] None");
    assert_eq!((owner(&pool.base()).0, owner(&pool.base()).2), (own, 0o700));
    assert_eq!((owner(&pool.runtime_folder()).0, owner(&pool.runtime_folder()).2), (own, 0o711));
    assert_eq!((owner(&output).0, owner(&output).2), (own, 0o750));
    assert_eq!((owner(&pool.admin).0, owner(&pool.admin).2), (own, 0o600));
    let runtime = pool.runtime_folder();
    let _folder = pool.end();
    assert!(!runtime.exists());
}

#[test]
fn an_ordinary_user_can_name_itself_and_nobody_else() {
    let own = if nix::unistd::geteuid().is_root() { NOBODY } else { nix::unistd::geteuid().as_raw() };
    let pool = ordinary(Start::new()).pool_user(&own.to_string()).must();
    assert_eq!(pool.pool_user, None);
    pool.serves();
    let why = ordinary(Start::new()).pool_user("daemon").refused();
    assert!(why.starts_with(&format!("the pool user daemon is not who starts the pool (user {own})")), "{why}");
}
