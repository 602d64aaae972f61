//! What a worker may use, as its process has it in the end.

use crate::keeper::{Keeper, is_root, kill, reap, status, user};
use hatchery_protocol::link::{Identity, Limits};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::SpawnStep;

/// More descriptors than any kernel gives.
const TOO_MANY: u64 = 1 << 40;

fn limit_of(pid: i32, name: &str) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn nice_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(16).unwrap().parse().unwrap()
}

fn oom_score_adj_of(pid: i32) -> i32 {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

#[test]
fn every_limit_is_set_in_the_worker() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = 'sleep 1000'")]);
    let options = AppOptions {
        limit_nofile: Some(100),
        limit_as: Some(1 << 30),
        limit_data: Some(1 << 29),
        limit_stack: Some(1 << 20),
        limit_fsize: Some(1 << 28),
        limit_core: Some(0),
        limit_nproc: Some(500),
        limit_cpu: Some(77),
        nice: Some(5),
        oom_score_adj: Some(300),
        umask: Some(0o027),
        no_new_privs: Some(true),
        ..AppOptions::default()
    };
    let plan = keeper.inspect(&app, options).unwrap();
    let worker = keeper.spawn(&plan);
    assert_eq!(worker.missed, [""; 0]);
    for (name, value) in [
        ("Max open files", "100 100"),
        ("Max address space", "1073741824 1073741824"),
        ("Max data size", "536870912 536870912"),
        ("Max stack size", "1048576 1048576"),
        ("Max file size", "268435456 268435456"),
        ("Max core file size", "0 0"),
        ("Max processes", "500 500"),
        ("Max cpu time", "77 77"),
    ] {
        assert_eq!(limit_of(worker.pid, name), value, "{name}");
    }
    assert_eq!((nice_of(worker.pid), oom_score_adj_of(worker.pid)), (5, 300));
    assert_eq!((status(worker.pid, "Umask").as_str(), status(worker.pid, "NoNewPrivs").as_str()), ("0027", "1"));
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn what_nobody_limits_is_as_the_spawner_has_it() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    let spawner = i32::try_from(keeper.spawner.id()).unwrap();
    let limits = |pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert_eq!(limits(worker.pid), limits(spawner));
    assert_eq!(nice_of(worker.pid), nice_of(spawner));
    assert_eq!(oom_score_adj_of(worker.pid), oom_score_adj_of(spawner));
    assert_eq!((status(worker.pid, "Umask").as_str(), status(worker.pid, "NoNewPrivs").as_str()), ("0022", "0"));
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn limits_that_take_privileges_are_set_before_these_are_given_up() {
    if !is_root("a worker that is preferred") {
        return;
    }
    let mut keeper = Keeper::start();
    let nobody = user("nobody");
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.identity = Some(Identity {
        uid: nobody.uid.as_raw(),
        gid: nobody.gid.as_raw(),
        groups: Vec::new(),
        name: "nobody".into(),
        home: b"/".to_vec(),
        shell: Vec::new(),
    });
    // To be spared takes a capability that many containers' root lacks; to be preferred, the right to write there,
    // which the worker's user has not before its program is executed.
    let spared = rustix::thread::capabilities(None).unwrap().effective;
    let adjustment = if spared.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) { -500 } else { 500 };
    plan.limits = Limits { nice: Some(-5), oom_score_adj: Some(adjustment), ..Limits::default() };
    let worker = keeper.spawn(&plan);
    assert_eq!(worker.missed, [""; 0]);
    assert_eq!((nice_of(worker.pid), oom_score_adj_of(worker.pid)), (-5, adjustment));
    assert_eq!(status(worker.pid, "Groups"), "");
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_limit_that_cannot_be_applied_is_told_and_the_others_are_applied() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.limits.rlimits = vec![(libc::RLIMIT_NOFILE, TOO_MANY), (libc::RLIMIT_CORE, 0)];
    let worker = keeper.spawn(&plan);
    let said = format!("limit_nofile = {TOO_MANY} is not applied: Operation not permitted (os error 1)");
    assert_eq!(worker.missed, [said]);
    assert_eq!(limit_of(worker.pid, "Max core file size"), "0 0");
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_required_limit_that_cannot_be_applied_refuses_the_start() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.limits.rlimits = vec![(libc::RLIMIT_NOFILE, TOO_MANY)];
    plan.limits.required = vec!["limit_nofile".into()];
    let report = keeper.spawn_fails(&plan);
    assert_eq!(
        report.problem,
        format!("limit_nofile = {TOO_MANY} is required and can't be applied: Operation not permitted (os error 1)")
    );
    assert_eq!(report.step, SpawnStep::Prepare);
    assert!(report.remedy.contains("`required`"), "{report:?}");
}

#[test]
fn what_takes_privileges_is_missed_without_them() {
    let Some(mut keeper) = Keeper::start_as_nobody() else { return };
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.directory = b"/".to_vec();
    plan.limits = Limits { nice: Some(-5), oom_score_adj: Some(-500), umask: Some(0o077), ..Limits::default() };
    let worker = keeper.spawn(&plan);
    let denied = "is not applied: Permission denied (os error 13)";
    assert_eq!(worker.missed, [format!("oom_score_adj = -500 {denied}"), format!("nice = -5 {denied}")]);
    assert_eq!(status(worker.pid, "Umask"), "0077");
    kill(worker.pid);
    reap(worker.pid);
    plan.limits.required = vec!["nice".into()];
    let report = keeper.spawn_fails(&plan);
    assert_eq!(report.problem, "nice = -5 is required and can't be applied: Permission denied (os error 13)");
}

#[test]
fn a_program_that_would_gain_privileges_gains_none_where_that_is_said() {
    if !is_root("a program that gains privileges") {
        return;
    }
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = './id -u'")]);
    let id = app.join("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    std::fs::set_permissions(&id, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    for (no_new_privs, uid) in [(false, "0"), (true, "65534")] {
        let options =
            AppOptions { no_new_privs: Some(no_new_privs), user: Some("65534".into()), ..AppOptions::default() };
        let plan = keeper.inspect(&app, options).unwrap();
        let worker = keeper.spawn(&plan);
        assert_eq!(crate::keeper::read_all(&worker.stdout).trim(), uid);
        reap(worker.pid);
    }
}
