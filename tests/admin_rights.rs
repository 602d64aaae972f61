//! Who may say what on the admin socket: its file lets in whom the operator names, and every command is judged by
//! who connected. As root only: the test becomes other users.

mod support;

use nix::libc;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use support::admin::Line;
use support::apps::{self, App};
use support::front::{self, Front};

/// Users that Debian has from the start, without their groups.
const ANN: u32 = 1;
const BOB: u32 = 33;
const STRANGER: u32 = 61_500;
/// Groups that need not exist.
const OPERATORS: u32 = 61_999;
const READERS: u32 = 61_998;

fn root_only(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED {test}: only root can become other users");
    }
    is_root
}

/// Does this as another user with these groups. On Linux, users are the threads' own.
fn be<T: Send>(uid: u32, groups: &[u32], then: impl FnOnce() -> T + Send) -> T {
    let become_it = || {
        let check = |done: libc::c_long| assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        let own = 61_000_u32;
        // SAFETY: the calls take numbers, and an array that is as long as is said; they change this thread alone.
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()));
            check(libc::syscall(libc::SYS_setresgid, own, own, own));
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid));
        }
        then()
    };
    std::thread::scope(|threads| threads.spawn(become_it).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The last line of the answer to somebody.
fn says(front: &Front, uid: u32, groups: &[u32], line: &str) -> String {
    let path = front.admin();
    be(uid, groups, || Line::at(&path).ask(line).1)
}

fn json(front: &Front, uid: u32, line: &str) -> Value {
    let path = front.admin();
    be(uid, &[], || Line::at(&path).json(line))
}

fn can_connect(path: &Path, uid: u32, groups: &[u32]) -> bool {
    be(uid, groups, || UnixStream::connect(path).is_ok())
}

fn mode(path: &Path) -> (u32, u32) {
    let found = path.symlink_metadata().expect("a socket");
    (found.mode() & 0o7777, found.gid())
}

/// A pool with these lines of `[pool]`, and an app of Ann's and one of Bob's.
fn pool(lines: &str, ann: &App, bob: &App) -> Front {
    ann.give_to(ANN);
    bob.give_to(BOB);
    let folder = front::folder();
    let mut text = format!("[pool]\nmin_uid = 1\n{lines}\n");
    for (host, app) in [("ann.test", ann), ("bob.test", bob)] {
        text += &format!("[[app]]\nname = \"{}\"\nhost = \"{host}\"\nroot = {:?}\n", &host[..3], app.root());
    }
    let path = folder.path().join("pool.toml");
    std::fs::write(&path, text).expect("a test's own file");
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0", "--config"]);
    command.arg(path);
    Front::start(command, folder)
}

fn ask(front: &Front, host: &str) -> u16 {
    let mut browser = front.browser();
    browser.send(format!("GET /pid HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    browser.answer().status
}

#[test]
fn without_a_word_the_socket_is_for_root_and_the_pools_own_user() {
    if !root_only("without_a_word_the_socket_is_for_root_and_the_pools_own_user") {
        return;
    }
    let front = Front::demo();
    assert_eq!(mode(&front.admin()).0, 0o600);
    assert!(!can_connect(&front.admin(), STRANGER, &[0]));
    assert_eq!(Line::to(&front).ask("clear").1, "ok");
}

#[test]
fn members_of_admin_group_may_say_everything_and_nobody_else_connects() {
    if !root_only("members_of_admin_group_may_say_everything_and_nobody_else_connects") {
        return;
    }
    let (ann, bob) = (apps::worker(), apps::worker());
    let front = pool(&format!("admin_group = \"{OPERATORS}\""), &ann, &bob);
    assert_eq!(mode(&front.admin()), (0o660, OPERATORS));
    assert!(!can_connect(&front.admin(), STRANGER, &[READERS]));
    assert!(!can_connect(&front.admin(), ANN, &[]));
    // Many groups, and the one that counts last.
    let many: Vec<u32> = (50_000..50_200).chain([OPERATORS]).collect();
    for line in ["status", "set max=3", "stop ann", "start ann", "get", "reload"] {
        assert_eq!(says(&front, STRANGER, &many, line), "ok", "{line}");
    }
    // What is said by hand is in the log, with who said it.
    assert!(front.log().contains(&format!("user {STRANGER} says: set max=3")), "{}", front.log());
}

/// Something of each kind, and one of each command that changes something.
const READING: [&str; 7] = ["status", "list", "sessions", "json events", "logs ann", "metrics", "get max"];
const CHANGING: [&str; 16] = [
    "deploy ann",
    "rollback ann",
    "stop ann",
    "start ann",
    "add /srv/x",
    "remove ann",
    "disable ann",
    "enable ann",
    "set max=1",
    "set ann min=1",
    "retire 1",
    "end 1",
    "clear",
    "reload",
    "shutdown",
    "restart ann kill",
];

fn is_done(answer: &str) -> bool {
    answer == "ok" || answer.starts_with("{\"ok\":true")
}

fn is_not_allowed(answer: &str) -> bool {
    answer.starts_with("error: not allowed: ") || answer.starts_with("{\"ok\":false,\"error\":\"not allowed: ")
}

#[test]
fn readers_look_at_everything_and_change_nothing_and_strangers_get_a_reason() {
    if !root_only("readers_look_at_everything_and_change_nothing_and_strangers_get_a_reason") {
        return;
    }
    let (ann, bob) = (apps::worker(), apps::worker());
    let front = pool(&format!("admin_readers = \"{READERS}\"\nadmin_group = \"{OPERATORS}\""), &ann, &bob);
    assert_eq!(mode(&front.admin()).0, 0o666);
    assert_eq!((ask(&front, "ann.test"), ask(&front, "bob.test")), (200, 200));
    for line in READING {
        let answer = says(&front, STRANGER, &[READERS], line);
        assert!(is_done(&answer), "{line}: {answer}");
    }
    // Whom an app runs as means nothing here.
    for (uid, groups) in [(STRANGER, &[READERS][..]), (ANN, &[READERS]), (ANN, &[]), (STRANGER, &[])] {
        for line in CHANGING {
            let answer = says(&front, uid, groups, line);
            assert!(is_not_allowed(&answer), "{uid} {groups:?} {line}: {answer}");
        }
    }
    for line in READING {
        let answer = says(&front, STRANGER, &[], line);
        assert!(is_not_allowed(&answer), "{line}: {answer}");
    }
    let refused = says(&front, STRANGER, &[], "events");
    assert!(refused.contains(&format!("members of group {READERS} (admin_readers)")), "{refused}");
    for line in ["help", "quit"] {
        assert_eq!(says(&front, STRANGER, &[], line), "ok", "{line}");
    }
    assert_eq!(says(&front, STRANGER, &[OPERATORS], "restart ann"), "ok");
}

#[test]
fn whom_an_app_runs_as_may_look_at_it_restart_it_and_read_its_output_and_nothing_else() {
    if !root_only("whom_an_app_runs_as_may_look_at_it_restart_it_and_read_its_output_and_nothing_else") {
        return;
    }
    let (ann, bob) = (apps::worker_with("", &[("TEST_PRINT", "of ann")]), apps::worker());
    let front = pool("admin_owners = true", &ann, &bob);
    assert_eq!(mode(&front.admin()).0, 0o666);
    // Nobody has looked into it yet.
    let unknown = says(&front, ANN, &[], "restart ann");
    assert!(unknown.contains("no application 'ann'") && unknown.contains("once it was started"), "{unknown}");
    assert_eq!(json(&front, ANN, "json list")["apps"].as_array().map(Vec::len), Some(0));

    assert_eq!((ask(&front, "ann.test"), ask(&front, "bob.test")), (200, 200));
    for (uid, own, other) in [(ANN, "ann", "bob"), (BOB, "bob", "ann")] {
        for line in ["status", "list"] {
            let shown = json(&front, uid, &format!("json {line}"));
            let names: Vec<&str> =
                shown["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
            assert_eq!(names, [own], "{line}: {shown}");
        }
        let status = json(&front, uid, "json status");
        assert_eq!((&status["count"], status["tenants"].as_array().map(Vec::len)), (&1.into(), Some(0)));
        for line in ["status", "logs", "restart"] {
            assert_eq!(says(&front, uid, &[], &format!("{line} {own}")), "ok", "{line}");
            let refused = says(&front, uid, &[], &format!("{line} {other}"));
            assert!(refused.starts_with(&format!("error: no application '{other}'")), "{line}: {refused}");
        }
        // Not even a hint at what others have: all roots begin alike.
        let vague = says(&front, uid, &[], "status tmp");
        assert!(!vague.contains("/tmp/"), "{vague}");
        for line in ["sessions", "json events", "events", "metrics", "get", "get max"].iter().chain(&CHANGING[..15]) {
            let answer = says(&front, uid, &[], line);
            assert!(is_not_allowed(&answer), "{line}: {answer}");
        }
    }
    let logs = json(&front, ANN, "json logs ann");
    assert!(logs["lines"].as_array().unwrap().iter().any(|line| line["line"] == "of ann"), "{logs}");
    assert_eq!(says(&front, STRANGER, &[], "list"), "ok", "of nothing");
    assert!(says(&front, STRANGER, &[], "restart ann").starts_with("error: no application"));
    assert_eq!(front.status()["apps"][0]["generation"], 2, "one restart by its owner");
}

#[test]
fn a_folder_that_keeps_out_whom_the_operator_lets_in_is_told_by_name() {
    if !root_only("a_folder_that_keeps_out_whom_the_operator_lets_in_is_told_by_name") {
        return;
    }
    let shut = front::folder();
    std::fs::set_permissions(shut.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (ann, bob) = (apps::worker(), apps::worker());
    let place = shut.path().join("admin.sock");
    let front = pool(&format!("admin_owners = true\nadmin = {place:?}"), &ann, &bob);
    let warning = format!("admin_owners: not all of those can enter {}", shut.path().display());
    support::until_blocking("it is told", || front.log().contains(&warning).then_some(()));
    assert!(!can_connect(&place, ANN, &[]));
    std::fs::set_permissions(shut.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    assert!(can_connect(&place, ANN, &[]));
}

#[test]
fn who_may_say_what_stays_as_it_was_started() {
    if !root_only("who_may_say_what_stays_as_it_was_started") {
        return;
    }
    let (ann, bob) = (apps::worker(), apps::worker());
    let front = pool("admin_owners = true", &ann, &bob);
    let file = front.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("admin_owners = true", "admin_owners = false")).unwrap();
    assert_eq!(Line::to(&front).ask("reload").1, "ok");
    support::until_blocking("it is told", || {
        front.log().contains("admin_owners can't change while the pool runs").then_some(())
    });
    assert_eq!(says(&front, STRANGER, &[], "list"), "ok");
}
