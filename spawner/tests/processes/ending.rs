//! How the link ends, and what is left then.

use crate::keeper::{Keeper, next, read_line, reap, runs, start_at_3, wait, wait_for};
use hatchery_protocol::link::{ToSpawner, WorkerNumber};
use hatchery_protocol::{codec, packet};
use rustix::process::Signal;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

#[test]
fn the_end_of_the_link_ends_all_workers_and_what_they_started() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000"]);
    let worker = keeper.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    assert!(runs(worker.pid) && runs(escaped));
    let status = keeper.close();
    assert!(status.success(), "{status}");
    assert!(!runs(worker.pid) && !runs(escaped), "something is left");
    assert!(!keeper.runtime().exists());
    reap(worker.pid);
}

#[test]
fn a_root_who_may_not_look_into_others_leaves_nothing_either() {
    let Some(mut keeper) = Keeper::start_without_ptrace() else { return };
    let nobody = crate::keeper::user("nobody");
    let mut plan = keeper.plan(&["sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000"]);
    plan.identity = Some(hatchery_protocol::link::Identity {
        uid: nobody.uid.as_raw(),
        gid: nobody.gid.as_raw(),
        groups: Vec::new(),
        name: "nobody".into(),
        home: b"/".to_vec(),
        shell: Vec::new(),
    });
    let worker = keeper.spawn(&plan);
    let escaped: i32 = read_line(&worker.stdout).parse().unwrap();
    // Out of the pool's control group, so that it is the mark that tells.
    if let Some(group) = &worker.cgroup {
        let outside = group.parent().unwrap().with_file_name("cgroup.procs");
        std::fs::write(outside, escaped.to_string()).unwrap();
    }
    assert!(keeper.close().success());
    assert!(!runs(worker.pid) && !runs(escaped), "something is left");
    reap(worker.pid);
}

#[test]
fn the_keepers_death_ends_all_workers() {
    if std::env::var_os(KEEPER_ROLE).is_some() {
        return keeper_role();
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut keeper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ending::the_keepers_death_ends_all_workers", "--nocapture"])
        .env(KEEPER_ROLE, "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let line = read_line(&OwnedFd::from(keeper.stderr.take().unwrap()));
    let (base, pids) = line.split_once('|').unwrap();
    let pids: Vec<i32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    wait_for("all to end", || (!pids.iter().any(|pid| runs(*pid))).then_some(()));
    for pid in pids {
        reap(pid);
    }
    // What the spawner removes is the pool's own.
    assert!(!std::path::Path::new(base).join("runtime").exists());
    std::fs::remove_dir_all(base).unwrap();
}

const KEEPER_ROLE: &str = "HATCHERY_TEST_KEEPER";

/// Says which processes are its own, and waits to be killed.
fn keeper_role() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000"]);
    let worker = keeper.spawn(&plan);
    let escaped = read_line(&worker.stdout);
    let base = keeper.base.path().display();
    eprintln!("{base}|{} {} {escaped}", keeper.spawner.id(), worker.pid);
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn signals_do_not_end_the_spawner() {
    let mut keeper = Keeper::start();
    let spawner = rustix::process::Pid::from_raw(i32::try_from(keeper.spawner.id()).unwrap()).unwrap();
    for signal in [Signal::INT, Signal::HUP, Signal::QUIT, Signal::TERM, Signal::PIPE] {
        rustix::process::kill_process(spawner, signal).unwrap();
    }
    assert_eq!(keeper.output_of("echo still here"), "still here\n");
}

fn link_ends(speak: impl FnOnce(&mut Keeper), why: &str) {
    let mut keeper = Keeper::start_silent(&[], Stdio::piped());
    speak(&mut keeper);
    assert!(keeper.is_closed());
    assert_eq!(wait(&mut keeper.spawner).code(), Some(1));
    let mut said = String::new();
    keeper.spawner.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn what_is_out_of_turn_ends_the_link() {
    let gone = ToSpawner::Gone { worker: WorkerNumber(next()) };
    link_ends(|keeper| keeper.send(&gone), "the pool-server sent Gone before Begin");
    let twice = |keeper: &mut Keeper| {
        keeper.begin();
        keeper.begin();
    };
    link_ends(twice, "the pool-server sent Begin a second time");
}

#[test]
fn hostile_bytes_end_the_link() {
    link_ends(
        |keeper| keeper.link().send_packet(b"GET / HTTP/1.1", &[]).unwrap(),
        "does not speak Hatchery's protocol",
    );
    let mut malformed = b"Hy\0\0\x01\xff\xff\xff".to_vec();
    malformed[2..4].copy_from_slice(&hatchery_protocol::WIRE.to_le_bytes());
    link_ends(|keeper| keeper.link().send_packet(&malformed, &[]).unwrap(), "malformed");
    link_ends(|keeper| keeper.link().send_packet(b"Hy\x63\x00\x01", &[]).unwrap(), "wire version 99");
    link_ends(|keeper| keeper.link().send_packet(&vec![b'H'; codec::MAX_PACKET + 1], &[]).unwrap(), "truncated");
    link_ends(|keeper| keeper.link().send_hello().unwrap(), "out of turn");
    let descriptor = |keeper: &mut Keeper| {
        let file = std::fs::File::open("/dev/null").unwrap();
        let bytes = codec::encode(&ToSpawner::Gone { worker: WorkerNumber(1) }).unwrap();
        keeper.link().send_packet(&bytes, &[std::os::fd::AsFd::as_fd(&file)]).unwrap();
    };
    link_ends(descriptor, "1 descriptors instead of 0");
}

#[test]
fn a_broken_link_leaves_workers_alone() {
    // The keeper starts another spawner; workers are not its children and notice nothing.
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    keeper.link().send_packet(b"?", &[]).unwrap();
    assert_eq!(wait(&mut keeper.spawner).code(), Some(1));
    assert!(runs(worker.pid));
    assert!(keeper.runtime().exists());
    crate::keeper::kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    let by_hand = |script: &str| {
        let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_spawner")]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = by_hand("exec \"$0\" 3<&-");
    assert!(said.contains("is started by the pool-server") && said.contains("nothing is there"), "{said}");
    let said = by_hand("exec \"$0\" 3</dev/null");
    assert!(said.contains("what is there is no socket"), "{said}");
    let said = by_hand("exec \"$0\" --help 3<&-");
    assert!(said.contains("takes no arguments"), "{said}");
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = start_at_3(stream.into(), &[], Stdio::null());
    assert_eq!(wait(&mut child).code(), Some(1));
}

#[test]
fn a_link_that_ends_before_its_greeting_is_an_error() {
    let (ours, theirs) = packet::pair().unwrap();
    drop(ours);
    let mut child = start_at_3(theirs, &[], Stdio::null());
    assert_eq!(wait(&mut child).code(), Some(1));
}

#[test]
fn no_runtime_and_no_threads_are_linked_in() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "hatchery-spawner", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("hatchery-protocol"), "{tree}");
    for runtime in ["tokio", "mio", "async-std", "smol", "rayon"] {
        assert!(!tree.lines().any(|line| line.split(' ').next() == Some(runtime)), "{runtime} is in\n{tree}");
    }
}

#[test]
fn a_second_spawn_and_a_foreign_mark_end_the_link() {
    let twice = |keeper: &mut Keeper| {
        keeper.begin();
        let plan = keeper.plan(&["true"]);
        let number = WorkerNumber(next());
        let first = keeper.spawn_as(&plan, number);
        keeper.ask_as(&plan, None, number);
        reap(first.pid);
    };
    link_ends(twice, "Spawn for a worker that is there already");
    let foreign = |keeper: &mut Keeper| {
        keeper.begin();
        keeper.pool = "other".into();
        let plan = keeper.plan(&["true"]);
        keeper.ask(&plan, None);
    };
    link_ends(foreign, "Spawn with the mark of another pool");
    let nowhere = |keeper: &mut Keeper| keeper.begin_in("p".into(), b"/".to_vec());
    link_ends(nowhere, "Begin without a pool or its folder");
}
