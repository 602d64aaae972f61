//! What a worker is given, and what is said when it can't be started.

use crate::keeper::{Keeper, kill, read_line, reap, runs, status, wait_for};
use hatchery_protocol::link::{FromSpawner, Listen, Place, Program, ToSpawner};
use hatchery_protocol::report::SpawnStep;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_worker_has_descriptors_0_to_3_and_no_other() {
    let mut keeper = Keeper::start();
    let output = keeper.output_of("exec ls -l /proc/self/fd");
    let links: Vec<(&str, &str)> = output
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(before, target)| (before.rsplit(' ').next().unwrap(), target.split(':').next().unwrap()))
        // `ls` has the folder open that it lists.
        .filter(|(_, target)| !target.ends_with("/fd"))
        .collect();
    assert_eq!(links, [("0", "/dev/null"), ("1", "pipe"), ("2", "pipe"), ("3", "socket")], "{output}");
}

#[test]
fn a_listener_at_descriptor_0_leaves_no_other_behind() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sh", "-c", "readlink /proc/$$/fd/0; ls /proc/$$/fd; env | grep LISTEN; exec >&-"]);
    plan.listen = Listen::Stdin;
    let worker = keeper.spawn(&plan);
    let output = crate::keeper::read_all(&worker.stdout);
    assert!(output.starts_with("socket:["), "{output}");
    assert!(output.ends_with("]\n0\n1\n2\n"), "{output}");
    reap(worker.pid);
}

#[test]
fn a_workers_environment_is_clean() {
    let mut keeper = Keeper::start_with(&[("SECRET_OF_THE_HOST", "x"), ("HATCHERY_POOL", "x"), ("LC_TIME", "C")]);
    let mut plan = keeper.plan(&["sh", "-c", "echo pid $$; env; exec >&-"]);
    plan.env = vec![(b"GREETING".to_vec(), b"hello".to_vec())];
    let mut worker = keeper.ask(&plan, Some(b"/notify"));
    let FromSpawner::Started { pid, .. } = keeper.receive().0 else { panic!("no start") };
    worker.pid = pid;
    let output = crate::keeper::read_all(&worker.stdout);
    reap(pid);
    let mark = format!("HATCHERY_WORKER={}.1.{}", keeper.pool, worker.number.0);
    let listen_pid = format!("LISTEN_PID={pid}");
    let own = format!("pid {pid}");
    for line in [
        own.as_str(),
        &mark,
        &listen_pid,
        "LISTEN_FDS=1",
        "LISTEN_FDNAMES=hatchery",
        "HATCHERY_ROOT=/apps/test",
        "HATCHERY_ENV=production",
        "APP_ENV=production",
        "RACK_ENV=production",
        "RAILS_ENV=production",
        "NODE_ENV=production",
        "NOTIFY_SOCKET=/notify",
        "GREETING=hello",
        "LC_TIME=C",
    ] {
        assert!(output.lines().any(|other| other == line), "{line} is not in {output}");
    }
    assert!(!output.contains("SECRET_OF_THE_HOST"), "{output}");
    assert!(!output.contains("HATCHERY_POOL"), "{output}");
}

#[test]
fn a_worker_is_the_keepers_child_and_leads_its_session() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    assert_eq!(status(worker.pid, "PPid"), std::process::id().to_string());
    assert_eq!(status(worker.pid, "NSsid"), worker.pid.to_string());
    assert_eq!(status(worker.pid, "NSpgid"), worker.pid.to_string());
    assert_eq!(status(worker.pid, "Umask"), "0022");
    // `sleep` touches no signals, unlike a shell.
    for field in ["SigBlk", "SigIgn"] {
        let value = u64::from_str_radix(&status(worker.pid, field), 16).unwrap();
        assert_eq!(value, 0, "{field}");
    }
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_worker_runs_in_its_apps_folder() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = 'sh -c \"pwd; cat data\"'"), ("data", "here")]);
    let plan = keeper.inspect(&app, Default::default()).unwrap();
    let worker = keeper.spawn(&plan);
    let output = crate::keeper::read_all(&worker.stdout);
    assert_eq!(output, format!("{}\nhere", app.canonicalize().unwrap().display()));
    reap(worker.pid);
}

#[test]
fn a_worker_gets_a_listener_that_waits_in_accept() {
    let mut keeper = Keeper::start();
    let output = keeper.output_of("sed -n 's/^flags:\t*//p' /proc/$$/fdinfo/3");
    let flags = u32::from_str_radix(output.trim(), 8).unwrap();
    assert_eq!(flags & 0o4000, 0, "O_NONBLOCK in {output}");
}

#[test]
fn a_program_that_cannot_be_executed_is_explained() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("plain", "x"), ("mute", "echo hi\n"), ("perl", "#!/opt/no/perl -w\n"), ("empty", "")]);
    for name in ["mute", "perl", "empty"] {
        std::fs::set_permissions(app.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(app.join("plain"), PermissionsExt::from_mode(0o644)).unwrap();
    for (program, problem) in [
        ("python4", "python4 is not on the PATH ("),
        ("./missing", "./missing does not exist"),
        ("./plain", "./plain is not executable: its mode is 0644"),
        ("./mute", "./mute is no program: it has no #! line"),
        ("./perl", "./perl is there, but /opt/no/perl, which its #! line names, is not"),
        ("./empty", "./empty is empty"),
        ("/tmp", "/tmp is a folder, no program"),
    ] {
        let mut plan = keeper.plan(&[program]);
        plan.directory = app.as_os_str().as_bytes().to_vec();
        let report = keeper.spawn_fails(&plan);
        assert!(report.problem.starts_with(problem), "{report:?}");
        assert_eq!((report.step, report.root.as_str()), (SpawnStep::Execute, "/apps/test"));
        assert!(!report.remedy.is_empty());
    }
}

#[test]
fn a_folder_that_went_away_is_named() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["true"]);
    plan.directory = b"/nonexistent/app".to_vec();
    let report = keeper.spawn_fails(&plan);
    assert_eq!(report.problem, "/nonexistent (on the way to /nonexistent/app) does not exist any more");
}

#[test]
fn arguments_that_are_too_long_are_explained() {
    let mut keeper = Keeper::start();
    // One argument may have 128 KiB.
    let plan = keeper.plan(&["true", &"x".repeat(131_073)]);
    let report = keeper.spawn_fails(&plan);
    assert_eq!(report.problem, "the command and environment are longer than this machine allows");
}

#[test]
fn a_failed_start_leaves_a_zombie_at_most() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["/nonexistent"]);
    keeper.spawn_fails(&plan);
    // Nothing carries the mark; what is left is the keeper's to reap, once it is answered.
    assert!(hatchery_protocol::mark::processes("HATCHERY_WORKER", &keeper.pool, true).is_empty());
    assert!(!keeper.runtime().join("w-1").exists());
}

#[test]
fn the_stand_alone_spawner_has_no_demo_app() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&[]);
    plan.program = Program::DemoApp;
    let report = keeper.spawn_fails(&plan);
    assert_eq!(report.problem, "this executable has no demo app inside");
}

#[test]
fn port_is_filled_into_every_argument_and_said_in_the_environment() {
    let mut keeper = Keeper::start();
    let app =
        keeper.app(&[("hatchery.toml", "command = ['sh', '-c', 'echo $0 $1 $PORT', 'a{port}', '{port}/{port}']")]);
    let plan = keeper.inspect(&app, Default::default()).unwrap();
    let worker = keeper.spawn(&plan);
    let Some(Place::Port(port)) = worker.place else { panic!("{:?}", worker.place) };
    assert_eq!(read_line(&worker.stdout), format!("a{port} {port}/{port} {port}"));
    reap(worker.pid);
}

#[test]
fn socket_is_a_path_in_a_folder_of_its_own_that_goes_with_the_worker() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[(
        "hatchery.toml",
        "command = ['sh', '-c', 'stat -c %a ${0%/*}; touch $0; mkdir ${0%/*}/d', '{socket}']",
    )]);
    let plan = keeper.inspect(&app, Default::default()).unwrap();
    let worker = keeper.spawn(&plan);
    let folder = keeper.runtime().join(format!("w-{}", worker.number.0));
    assert_eq!(worker.place, Some(Place::Path(folder.join("app.sock").as_os_str().as_bytes().to_vec())));
    assert_eq!(read_line(&worker.stdout), "700");
    reap(worker.pid);
    assert!(folder.exists());
    keeper.send(&ToSpawner::Gone { worker: worker.number });
    wait_for("the folder to go", || (!folder.exists()).then_some(()));
}

#[test]
fn a_program_that_is_being_written_is_named() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    std::fs::copy("/bin/true", app.join("busy")).unwrap();
    let _writer = std::fs::OpenOptions::new().append(true).open(app.join("busy")).unwrap();
    let mut plan = keeper.plan(&["./busy"]);
    plan.directory = app.as_os_str().as_bytes().to_vec();
    assert_eq!(keeper.spawn_fails(&plan).problem, "./busy is being written");
}

#[test]
fn a_worker_that_is_given_up_is_forgotten() {
    let mut keeper = Keeper::start();
    let plan = keeper.plan(&["sleep", "1000"]);
    let worker = keeper.spawn(&plan);
    kill(worker.pid);
    reap(worker.pid);
    keeper.send(&ToSpawner::Gone { worker: worker.number });
    // Its number may be used again, as that of a worker that is there may not.
    let again = keeper.spawn_as(&plan, worker.number);
    assert!(runs(again.pid));
    kill(again.pid);
    reap(again.pid);
}

#[test]
fn a_start_that_takes_too_long_leaves_no_process() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.start_timeout = std::time::Duration::ZERO;
    for _ in 0..50 {
        let worker = keeper.ask(&plan, None);
        match keeper.receive().0 {
            FromSpawner::SpawnFailed { report, .. } => {
                assert_eq!(report.problem, "executing the start command took longer than 0.0 s: sleep");
            }
            // It was quick.
            FromSpawner::Started { pid, .. } => {
                kill(pid);
                reap(pid);
                keeper.send(&ToSpawner::Gone { worker: worker.number });
            }
            other => panic!("{other:?}"),
        }
    }
    wait_for("the last to go", || {
        hatchery_protocol::mark::processes("HATCHERY_WORKER", &keeper.pool, true).is_empty().then_some(())
    });
    assert!(keeper.close().success());
}

#[test]
fn a_start_may_take_for_ever() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["true"]);
    plan.start_timeout = std::time::Duration::MAX;
    let worker = keeper.spawn(&plan);
    reap(worker.pid);
}

#[test]
fn a_worker_accepts_at_descriptor_3() {
    use std::io::Read;
    let mut keeper = Keeper::start();
    let plan = crate::worker::plan(&keeper, &[], crate::worker::GREETS_AT_3);
    let worker = keeper.spawn(&plan);
    let address = worker.listener.local_addr().unwrap();
    let mut greeting = String::new();
    let mut stream = std::os::unix::net::UnixStream::connect(address.as_pathname().unwrap()).unwrap();
    assert!(crate::keeper::readable(&stream, crate::keeper::PATIENCE));
    stream.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "hello");
    kill(worker.pid);
    reap(worker.pid);
}

/// Makes whoever opens or executes `path` wait, until the file is dropped. `None`: not on this file system.
fn leased(path: &std::path::Path) -> Option<std::fs::File> {
    use std::os::fd::AsRawFd;
    // Linux's own, which the library lacks.
    const F_SETSIG: libc::c_int = 10;
    let file = std::fs::File::open(path).unwrap();
    // SAFETY: no memory is involved. The signal that says that somebody waits is one that is ignored.
    let leased = unsafe {
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0
    };
    if !leased {
        eprintln!("skipped: a file can't be leased: {}", std::io::Error::last_os_error());
    }
    leased.then_some(file)
}

#[test]
fn a_program_that_hangs_in_its_exec_holds_up_no_other_and_is_given_up() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    std::fs::copy("/bin/true", app.join("slow")).unwrap();
    let Some(lease) = leased(&app.join("slow")) else { return };
    let mut slow = keeper.plan(&["./slow"]);
    slow.directory = app.as_os_str().as_bytes().to_vec();
    let waiting = keeper.ask(&slow, None);

    assert_eq!(keeper.output_of("echo quick"), "quick\n");

    // Given up by the keeper.
    keeper.send(&ToSpawner::Gone { worker: waiting.number });
    match keeper.receive().0 {
        FromSpawner::SpawnFailed { worker, report, .. } if worker == waiting.number => {
            assert!(report.problem.starts_with("the worker was given up"), "{report:?}");
        }
        other => panic!("{other:?}"),
    }

    // Given up for its time.
    slow.start_timeout = std::time::Duration::from_millis(300);
    let report = keeper.spawn_fails(&slow);
    assert_eq!(report.problem, "executing the start command took longer than 0.3 s: ./slow");
    drop(lease);
    assert!(keeper.close().success());
}
