//! Finding out about a running worker.

use crate::keeper::{Keeper, Worker, kill, read_line, readable, reap, wait_for};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{Findings, FromSpawner, Identity, ToSpawner};
use hatchery_protocol::mark;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

fn ask(keeper: &mut Keeper, worker: &Worker) {
    let mark = mark::worker(&keeper.pool, 1, worker.number.0);
    keeper.send(&ToSpawner::Examine { worker: worker.number, pid: worker.pid, mark });
}

fn answer(keeper: &mut Keeper, worker: &Worker) -> Findings {
    match keeper.receive().0 {
        FromSpawner::Examined { worker: number, findings } if number == worker.number => *findings,
        other => panic!("{other:?}"),
    }
}

fn examined(keeper: &mut Keeper, worker: &Worker) -> Findings {
    ask(keeper, worker);
    answer(keeper, worker)
}

/// A keeper whose workers have no control groups.
fn without_groups() -> Keeper {
    let config = PoolConfig { trust_clients: true, cgroup: Some("/tmp".into()), ..PoolConfig::default() };
    let mut keeper = Keeper::start_silent(&[], std::process::Stdio::null());
    keeper.config = config;
    keeper.begin();
    keeper
}

#[test]
fn a_stopped_worker_is_found_stopped() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    kill_process(Pid::from_raw(worker.pid).unwrap(), Signal::STOP).unwrap();
    let findings = wait_for("it to stop", || {
        let findings = examined(&mut keeper, &worker);
        (findings.state.as_deref() == Some("T (stopped)")).then_some(findings)
    });
    assert_eq!((findings.processes, findings.out_of_memory_kills), (1, 0));
    assert!(findings.memory_bytes.unwrap() > 0);
    if rustix::process::geteuid().is_root() {
        assert!(findings.kernel_stack.is_some_and(|stack| !stack.is_empty()));
    }
    kill(worker.pid);
    reap(worker.pid);
}

/// A worker with a child that holds so many bytes, and says its pid; the child has left its session.
const BYTES: u64 = 50_000_000;
const HOARDS: &str =
    "setsid sh -c 'head -c 50000000 /dev/zero | tail -c 50000000 | sleep 1000' & echo; exec sleep 1000";

fn memory_is_that_of_the_tree(keeper: &mut Keeper) {
    let plan = keeper.plan(&["sh", "-c", HOARDS]);
    let worker = keeper.spawn(&plan);
    read_line(&worker.stdout);
    let findings = wait_for("the child to have its memory", || {
        let findings = examined(keeper, &worker);
        findings.memory_bytes.is_some_and(|bytes| bytes >= BYTES).then_some(findings)
    });
    assert!(findings.memory_bytes.unwrap() < 4 * BYTES, "{findings:?}");
    // The worker, the shell, `tail` and `sleep`, and `head` until it has written all.
    assert!((4..=5).contains(&findings.processes), "{findings:?}");
    for pid in mark::processes(mark::WORKER, &mark::worker(&keeper.pool, 1, worker.number.0), false) {
        kill(pid);
    }
    reap(worker.pid);
}

#[test]
fn memory_and_processes_are_those_of_the_whole_tree() {
    memory_is_that_of_the_tree(&mut Keeper::start());
    memory_is_that_of_the_tree(&mut without_groups());
}

#[test]
fn a_root_who_may_not_look_into_others_finds_the_same() {
    let Some(mut keeper) = Keeper::start_without_ptrace() else { return };
    let nobody = crate::keeper::user("nobody");
    let mut plan = keeper.plan(&["sh", "-c", "setsid sleep 1000 & sleep 1000"]);
    plan.identity = Some(Identity {
        uid: nobody.uid.as_raw(),
        gid: nobody.gid.as_raw(),
        groups: Vec::new(),
        name: "nobody".into(),
        home: b"/".to_vec(),
        shell: Vec::new(),
    });
    let worker = keeper.spawn(&plan);
    wait_for("its processes", || {
        let findings = examined(&mut keeper, &worker);
        (findings.processes == 3 && findings.memory_bytes.is_some()).then_some(())
    });
    for pid in mark::processes(mark::WORKER, &mark::worker(&keeper.pool, 1, worker.number.0), false) {
        kill(pid);
    }
    reap(worker.pid);
}

#[test]
fn a_worker_that_is_gone_is_answered_for() {
    let mut keeper = without_groups();
    let plan = keeper.plan(&["true"]);
    let worker = keeper.spawn(&plan);
    reap(worker.pid);
    assert_eq!(examined(&mut keeper, &worker), Findings::default());
}

#[test]
fn every_question_is_answered_once_though_one_hangs() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    let children = format!("/proc/{0}/task/{0}/children", keeper.spawner.id());
    // One is stopped on its way, as one would be that waits for a process which the kernel does not let go.
    wait_for("an errand to be caught", || {
        const QUESTIONS: usize = 20;
        (0..QUESTIONS).for_each(|_| ask(&mut keeper, &worker));
        let child = wait_for("a child", || {
            let first = std::fs::read_to_string(&children).unwrap().split(' ').next()?.parse().ok();
            first.or_else(|| readable(keeper.link(), Duration::ZERO).then_some(0))
        });
        if let Some(child) = Pid::from_raw(child) {
            let _ = kill_process(child, Signal::STOP);
        }
        let answers: Vec<_> = (0..QUESTIONS).map(|_| answer(&mut keeper, &worker)).collect();
        assert!(!readable(keeper.link(), Duration::ZERO));
        let (nothing, found): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|findings| *findings == Findings::default());
        assert!(found.iter().all(|findings| findings.state.is_some()), "{found:?}");
        (nothing.len() == 1).then_some(())
    });
    kill(worker.pid);
    reap(worker.pid);
}
