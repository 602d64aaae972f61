//! Control groups: what is in one ends with it.

use crate::keeper::{Keeper, kill, read_line, reap, runs, skip, user, wait_for};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{LaunchPlan, ToSpawner};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

/// A daemon that can be found neither by its parent, its session nor its environment.
const DAEMON: &str = "env -i setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000";

/// A keeper whose workers get groups.
fn start() -> Option<Keeper> {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["true"]);
    let worker = keeper.spawn(&plan);
    reap(worker.pid);
    if worker.cgroup.is_none() {
        skip("control groups: none of version 2 can be made here");
        return None;
    }
    gone(&mut keeper, &worker);
    Some(keeper)
}

fn gone(keeper: &mut Keeper, worker: &crate::keeper::Worker) {
    keeper.send(&ToSpawner::Gone { worker: worker.number });
    let group = worker.cgroup.clone().unwrap();
    wait_for("the group to go", || (!group.exists()).then_some(()));
}

fn daemon_plan(keeper: &Keeper) -> LaunchPlan {
    keeper.plan(&["sh", "-c", DAEMON])
}

fn members(group: &std::path::Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// A process that is no child of ours, once its parent has gone: as subreaper we are its parent then.
fn take_in(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    wait_for("an orphan to be taken in", || {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::CHILD) => Some(()),
            _ => None,
        }
    });
}

#[test]
fn a_workers_group_holds_it_and_all_it_starts_and_goes_with_it() {
    let Some(mut keeper) = start() else { return };
    let plan = daemon_plan(&keeper);
    let worker = keeper.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    let group = worker.cgroup.clone().unwrap();
    let found = members(&group);
    assert!(found.contains(&worker.pid) && found.contains(&escaped), "{found:?}");
    // As the keeper does: the worker alone.
    kill(worker.pid);
    reap(worker.pid);
    assert!(runs(escaped));
    gone(&mut keeper, &worker);
    assert!(!runs(escaped));
    take_in(escaped);
}

#[test]
fn the_end_of_the_link_ends_what_carries_no_mark() {
    let Some(mut keeper) = start() else { return };
    let plan = daemon_plan(&keeper);
    let worker = keeper.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    let pool: PathBuf = worker.cgroup.clone().unwrap().parent().unwrap().into();
    assert!(pool.ends_with(format!("hatchery-{}", keeper.pool)));
    assert!(keeper.close().success());
    assert!(!runs(escaped) && !runs(worker.pid));
    assert!(!pool.exists());
    reap(worker.pid);
    take_in(escaped);
}

#[test]
fn a_group_that_holds_groups_is_removed_with_them() {
    let Some(mut keeper) = start() else { return };
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    let below = worker.cgroup.clone().unwrap().join("below");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.procs"), worker.pid.to_string()).unwrap();
    gone(&mut keeper, &worker);
    reap(worker.pid);
}

#[test]
fn a_start_that_fails_leaves_no_group() {
    let Some(mut keeper) = start() else { return };
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    let pool: PathBuf = worker.cgroup.clone().unwrap().parent().unwrap().into();
    gone(&mut keeper, &worker);
    reap(worker.pid);
    let plan = keeper.plan(&["/nonexistent"]);
    keeper.spawn_fails(&plan);
    wait_for("its group to go, and the pool's with it", || (!pool.exists()).then_some(()));
    // It comes again with the next worker.
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    assert!(worker.cgroup.is_some() && pool.exists());
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_new_spawner_removes_its_predecessors_groups() {
    let Some(mut first) = start() else { return };
    let plan = daemon_plan(&first);
    let worker = first.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    let mut second = Keeper::start_silent(&[], Stdio::inherit());
    second.pool = first.pool.clone();
    second.begin();
    gone(&mut second, &worker);
    assert!(!runs(escaped));
    reap(worker.pid);
    take_in(escaped);
}

#[test]
fn the_pools_user_may_end_the_pools_group() {
    let Some(probe) = start() else { return };
    if !crate::keeper::is_root("a file that is given away") {
        return;
    }
    drop(probe);
    let mut keeper = Keeper::start_silent(&[], Stdio::inherit());
    keeper.pool_user = Some(user("daemon").uid.as_raw());
    keeper.begin();
    let plan = daemon_plan(&keeper);
    let worker = keeper.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    let group = worker.cgroup.clone().unwrap();
    let kill_file = group.parent().unwrap().join("cgroup.kill");
    assert_eq!(kill_file.metadata().unwrap().uid(), user("daemon").uid.as_raw());
    assert_eq!(group.join("cgroup.kill").metadata().unwrap().uid(), 0);
    std::fs::write(kill_file, "1").unwrap();
    wait_for("all to end", || (!runs(escaped) && !runs(worker.pid)).then_some(()));
    reap(worker.pid);
    take_in(escaped);
}

#[test]
fn without_groups_a_pool_works_and_says_what_is_not_limited() {
    let config = PoolConfig { trust_clients: true, cgroup: Some("/tmp".into()), ..PoolConfig::default() };
    let mut keeper = Keeper::start_silent(&[], Stdio::piped());
    keeper.config = config;
    keeper.begin();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.limits.pids_max = Some(7);
    let worker = keeper.spawn(&plan);
    assert_eq!(worker.cgroup, None);
    assert_eq!(worker.missed, ["pids_max = 7 is not applied: /tmp is no control group of version 2"]);
    kill(worker.pid);
    reap(worker.pid);
    plan.limits.required = vec!["pids_max".into()];
    let report = keeper.spawn_fails(&plan);
    let expected = "pids_max = 7 is required and can't be applied: /tmp is no control group of version 2";
    assert_eq!(report.problem, expected);
    let said = read_line(&keeper.spawner.stderr.take().unwrap().into());
    assert_eq!(said, "spawner: workers get no control groups: /tmp is no control group of version 2");
}

#[test]
fn limits_of_groups_are_applied_where_there_are_controllers_and_else_told() {
    let Some(mut keeper) = start() else { return };
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.limits.memory_max = Some(1 << 30);
    plan.limits.cpu_max = Some(500);
    plan.limits.pids_max = Some(7);
    let worker = keeper.spawn(&plan);
    let group = worker.cgroup.clone().unwrap();
    for (key, value, file, text) in [
        ("memory_max", "1073741824", "memory.max", "1073741824"),
        ("cpu_max", "0.5", "cpu.max", "50000 100000"),
        ("pids_max", "7", "pids.max", "7"),
    ] {
        match std::fs::read_to_string(group.join(file)) {
            Ok(read) => assert_eq!(read.trim(), text),
            Err(_) => {
                let controller = file.split('.').next().unwrap();
                let below = group.parent().unwrap().display();
                let said = format!(
                    "{key} = {value} is not applied: control groups below {below} have no {controller} controller"
                );
                assert!(worker.missed.contains(&said), "{said} is not in {:?}", worker.missed);
            }
        }
    }
    kill(worker.pid);
    reap(worker.pid);
}
