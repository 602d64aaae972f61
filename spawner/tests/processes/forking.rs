//! Workers that are forked from a preloader.

use crate::keeper::{Keeper, Worker, is_root, kill, next, read_line, reap, runs, skip, status, wait_for};
use crate::loading::{end, has_python, has_rack, loaded_by, nobody, preloaded, real, standin};
use hatchery_protocol::link::{FromSpawner, LaunchPlan, Loader, StartAs, ToSpawner, WorkerNumber};
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn ask(keeper: &mut Keeper, plan: &LaunchPlan, preloader: &Worker) -> Worker {
    keeper.ask_for(plan, StartAs::ForkOf(preloader.number), None, WorkerNumber(next()))
}

fn fork(keeper: &mut Keeper, plan: &LaunchPlan, preloader: &Worker) -> Worker {
    let asked = ask(keeper, plan, preloader);
    keeper.started(asked)
}

fn failure_of(keeper: &mut Keeper, asked: &Worker, lost: bool) -> SpawnReport {
    match keeper.receive().0 {
        FromSpawner::SpawnFailed { worker, report, preloader_lost } if worker == asked.number => {
            assert_eq!(preloader_lost, lost, "{report:?}");
            assert!(!report.remedy.is_empty() && report.setup.is_some(), "{report:?}");
            *report
        }
        other => panic!("{other:?}"),
    }
}

fn fork_fails(keeper: &mut Keeper, plan: &LaunchPlan, preloader: &Worker) -> String {
    let asked = ask(keeper, plan, preloader);
    let report = failure_of(keeper, &asked, true);
    assert_eq!(report.step, SpawnStep::Fork);
    report.problem
}

/// Takes in the children that no test waits for by name, such as forks that came to nothing.
fn take_in(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    wait_for("a child to end", || match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG) {
        Ok(Some(_)) | Err(rustix::io::Errno::CHILD) => Some(()),
        _ => None,
    });
}

const APP: &str = "\
import ctypes, os, hatchery
print('imported', hatchery.preloading, flush=True)

@hatchery.on_start
def start(forked):
    signal = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
    print('start', forked, os.environ['HATCHERY_WORKER'], os.getpid(), signal.value, os.getuid(), flush=True)
    print('descriptors', *sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:4], flush=True)

def application(environ, start_response):
    start_response('200 OK', [])
    return [b'hello']
";

/// The answer to the session protocol's harmless question.
fn asked_whether_it_lives(worker: &Worker) -> String {
    let path = worker.listener.local_addr().unwrap();
    let mut stream = UnixStream::connect(path.as_pathname().unwrap()).unwrap();
    stream.set_read_timeout(Some(crate::keeper::PATIENCE)).unwrap();
    stream.write_all(b"0:,").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_worker_is_forked_from_what_has_loaded_its_app_and_is_like_any_other() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("wsgi.py", APP)]);
    let plan = real(&keeper, &app, "wsgi.py");
    let preloader = preloaded(&mut keeper, &plan);
    assert_eq!(read_line(&preloader.stdout), "imported True");
    for _ in 0..3 {
        let worker = fork(&mut keeper, &plan, &preloader);
        let mark = hatchery_protocol::mark::worker(&keeper.pool, 1, worker.number.0);
        let user = rustix::process::geteuid().as_raw();
        let expected = format!("start True {mark} {} {} {user}", worker.pid, libc::SIGKILL);
        assert_eq!(read_line(&worker.stdout), expected);
        assert_eq!(status(worker.pid, "PPid"), std::process::id().to_string());
        assert_eq!(status(worker.pid, "NSsid"), worker.pid.to_string());
        assert_eq!(status(worker.pid, "NSpgid"), worker.pid.to_string());
        assert!(asked_whether_it_lives(&worker).starts_with("HTTP/1.1 204 "));
        if let Some(group) = &worker.cgroup {
            is_alone_in(&worker, group);
        }
        end(&mut keeper, &worker);
    }
    assert!(runs(preloader.pid));
    end(&mut keeper, &preloader);
}

#[test]
fn rack_apps_and_asgi_apps_are_forked_too() {
    let mut keeper = Keeper::start();
    let rack = "Hatchery.on_start { |forked| $stdout.puts \"start #{forked} #{ENV['HATCHERY_WORKER']} #{$$}\" }\n\
                run ->(env) { [200, {}, ['hello']] }\n";
    let asgi = "import hatchery, os\n\
                @hatchery.on_start\n\
                def start(forked):\n    \
                    print('start', str(forked).lower(), os.environ['HATCHERY_WORKER'], os.getpid(), flush=True)\n\
                async def application(scope, receive, send):\n    pass\n";
    for (loader, entry, app) in [(Loader::Rack, "config.ru", rack), (Loader::Asgi, "asgi.py", asgi)] {
        if !(if loader == Loader::Rack { has_rack() } else { has_python() }) {
            continue;
        }
        let app = keeper.app(&[(entry, app)]);
        let plan = loaded_by(&keeper, &app, loader, entry);
        let preloader = preloaded(&mut keeper, &plan);
        let worker = fork(&mut keeper, &plan, &preloader);
        let mark = hatchery_protocol::mark::worker(&keeper.pool, 1, worker.number.0);
        assert_eq!(read_line(&worker.stdout), format!("start true {mark} {}", worker.pid));
        assert_eq!(status(worker.pid, "PPid"), std::process::id().to_string());
        end(&mut keeper, &worker);
        end(&mut keeper, &preloader);
    }
}

/// A worker whose group limits nothing is put into it a moment after it was told of.
fn is_alone_in(worker: &Worker, group: &std::path::Path) {
    let own = worker.pid.to_string();
    let members = || std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    wait_for("the worker to be in its group", || (members().trim() == own).then_some(()));
}

#[test]
fn a_forked_worker_has_a_control_group_of_its_own_with_its_limits() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let mut plan = standin(&mut keeper, "good");
    plan.limits.pids_max = Some(17);
    let preloader = preloaded(&mut keeper, &plan);
    let Some(group) = preloader.cgroup.clone() else {
        skip("the control group of a forked worker: none of version 2 can be made here");
        return end(&mut keeper, &preloader);
    };
    let limited = preloader.missed.is_empty();
    if limited {
        plan.limits.required = vec!["pids_max".into()];
    }
    let worker = fork(&mut keeper, &plan, &preloader);
    // Where the group has no controllers, that is said of each worker.
    assert_eq!(worker.missed.is_empty(), limited, "{:?}", worker.missed);
    let own = worker.cgroup.clone().unwrap();
    assert_ne!(own, group);
    assert!(!limited || std::fs::read_to_string(own.join("pids.max")).unwrap() == "17\n");
    is_alone_in(&worker, &own);
    // What ends the preloader, all that is in its group included, does not end its workers.
    end(&mut keeper, &preloader);
    wait_for("the preloader's group to go", || (!group.exists()).then_some(()));
    assert!(runs(worker.pid));
    end(&mut keeper, &worker);
    wait_for("the worker's group to go", || (!own.exists()).then_some(()));
}

#[test]
fn a_preloaders_processes_are_its_own_without_its_workers() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "good");
    let preloader = preloaded(&mut keeper, &plan);
    let workers = [fork(&mut keeper, &plan, &preloader), fork(&mut keeper, &plan, &preloader)];
    let mark = hatchery_protocol::mark::worker(&keeper.pool, 1, preloader.number.0);
    for worker in &workers {
        // From here on it runs what is the app's.
        read_line(&worker.stdout);
    }
    keeper.send(&ToSpawner::Examine { worker: preloader.number, pid: preloader.pid, mark });
    match keeper.receive().0 {
        FromSpawner::Examined { findings, .. } => assert_eq!(findings.processes, 1, "{findings:?}"),
        other => panic!("{other:?}"),
    }
    workers.iter().for_each(|worker| end(&mut keeper, worker));
    end(&mut keeper, &preloader);
}

#[test]
fn a_worker_that_is_started_by_itself_is_served_by_the_same_loader() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("wsgi.py", APP)]);
    let plan = real(&keeper, &app, "wsgi.py");
    let worker = keeper.spawn(&plan);
    assert_eq!(read_line(&worker.stdout), "imported False");
    assert!(read_line(&worker.stdout).starts_with("start False "));
    assert!(asked_whether_it_lives(&worker).starts_with("HTTP/1.1 204 "));
    end(&mut keeper, &worker);
}

#[test]
fn preloader_and_forks_run_as_the_apps_user() {
    if !is_root("a preloader of another user") || !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("wsgi.py", APP)]);
    let mut plan = real(&keeper, &app, "wsgi.py");
    plan.identity = Some(nobody());
    plan.limits.no_new_privs = true;
    let preloader = preloaded(&mut keeper, &plan);
    let worker = fork(&mut keeper, &plan, &preloader);
    assert!(read_line(&worker.stdout).ends_with(&format!(" {} {}", libc::SIGKILL, nobody().uid)));
    for pid in [preloader.pid, worker.pid] {
        let id = nobody().uid.to_string();
        assert_eq!(status(pid, "Uid").split_ascii_whitespace().collect::<Vec<_>>(), [id.as_str(); 4]);
        assert_eq!(status(pid, "NoNewPrivs"), "1");
    }
    assert!(asked_whether_it_lives(&worker).starts_with("HTTP/1.1 204 "));
    end(&mut keeper, &worker);
    end(&mut keeper, &preloader);
}

#[test]
fn many_workers_are_forked_at_once() {
    if !has_python() {
        return;
    }
    const MANY: usize = 12;
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "good");
    let preloader = preloaded(&mut keeper, &plan);
    let asked: Vec<Worker> = (0..MANY).map(|_| ask(&mut keeper, &plan, &preloader)).collect();
    let mut pids = std::collections::BTreeMap::new();
    for _ in 0..MANY {
        match keeper.receive().0 {
            FromSpawner::Started { worker, pid, .. } => assert_eq!(pids.insert(worker, pid), None),
            other => panic!("{other:?}"),
        }
    }
    for worker in &asked {
        let pid = pids[&worker.number];
        let mark = hatchery_protocol::mark::worker(&keeper.pool, 1, worker.number.0);
        assert_eq!(read_line(&worker.stdout), format!("worker {mark} {pid}"));
        kill(pid);
        reap(pid);
        keeper.send(&ToSpawner::Gone { worker: worker.number });
    }
    end(&mut keeper, &preloader);
}

#[test]
fn a_process_that_is_no_such_fork_is_not_taken_for_a_worker() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    for (entry, problem) in [
        ("child", "is to be one of the pool-server ("),
        ("no-session", "leads no session of its own"),
        ("itself", "is another worker, or another preloader"),
    ] {
        let plan = standin(&mut keeper, entry);
        let preloader = preloaded(&mut keeper, &plan);
        let said = fork_fails(&mut keeper, &plan, &preloader);
        assert!(said.starts_with("what announced itself as a forked worker "), "{entry}: {said}");
        assert!(said.contains(problem), "{entry}: {said}");
        end(&mut keeper, &preloader);
    }
}

#[test]
fn an_announcement_is_good_for_one_worker() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "twice");
    let preloader = preloaded(&mut keeper, &plan);
    let mut asked = ask(&mut keeper, &plan, &preloader);
    match keeper.receive().0 {
        FromSpawner::SpawnFailed { report, preloader_lost: true, .. } => {
            assert!(report.problem.ends_with("did so more than once"), "{report:?}");
        }
        // It was answered between the two: the second is nothing that a worker says.
        FromSpawner::Started { pid, .. } => {
            asked.pid = pid;
            end(&mut keeper, &asked);
        }
        other => panic!("{other:?}"),
    }
    // The next answer is to the next question.
    assert_eq!(keeper.output_of("echo next"), "next\n");
    end(&mut keeper, &preloader);
}

#[test]
fn a_process_of_another_user_is_not_taken_for_a_worker() {
    if !is_root("a process of another user") || !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "user");
    let preloader = preloaded(&mut keeper, &plan);
    let said = fork_fails(&mut keeper, &plan, &preloader);
    assert!(said.ends_with("is a process of user 65534, and is to be one of user 0"), "{said}");
    end(&mut keeper, &preloader);
}

#[test]
fn a_hook_that_raises_is_the_apps_failure() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    // Before the fork: there is no worker, and the preloader is as good as before.
    let plan = standin(&mut keeper, "before-fork");
    let preloader = preloaded(&mut keeper, &plan);
    let asked = ask(&mut keeper, &plan, &preloader);
    let report = failure_of(&mut keeper, &asked, false);
    assert_eq!((report.step, report.problem.as_str()), (SpawnStep::Fork, "a hook raised before the fork"));
    end(&mut keeper, &preloader);
    // After it.
    let plan = standin(&mut keeper, "hook");
    let preloader = preloaded(&mut keeper, &plan);
    let worker = fork(&mut keeper, &plan, &preloader);
    match keeper.receive().0 {
        FromSpawner::LoadFailed { worker: number, report } if number == worker.number => {
            assert_eq!((report.problem.as_str(), report.remedy.as_str()), ("its hook raised", "correct it"));
        }
        other => panic!("{other:?}"),
    }
    end(&mut keeper, &worker);
    end(&mut keeper, &preloader);
}

#[test]
fn a_preloader_that_forks_nothing_is_lost_after_the_time_of_a_start() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let mut plan = standin(&mut keeper, "holds");
    let preloader = preloaded(&mut keeper, &plan);
    plan.start_timeout = Duration::from_millis(200);
    assert_eq!(fork_fails(&mut keeper, &plan, &preloader), "the preloader forked no worker within 0.2 s");
    // All else goes on meanwhile.
    plan.start_timeout = crate::keeper::PATIENCE;
    let waiting = ask(&mut keeper, &plan, &preloader);
    assert_eq!(keeper.output_of("echo quick"), "quick\n");
    keeper.send(&ToSpawner::Gone { worker: waiting.number });
    let report = failure_of(&mut keeper, &waiting, false);
    assert!(report.problem.starts_with("the worker was given up"), "{report:?}");
    end(&mut keeper, &preloader);
}

#[test]
fn a_preloader_that_reads_no_orders_holds_up_nobody() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let mut plan = standin(&mut keeper, "deaf");
    plan.start_timeout = Duration::from_millis(300);
    let preloader = preloaded(&mut keeper, &plan);
    for _ in 0..70 {
        ask(&mut keeper, &plan, &preloader);
        // Answered at once where there are too many already, later where its time is up.
    }
    for _ in 0..70 {
        match keeper.receive().0 {
            FromSpawner::SpawnFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(keeper.output_of("echo quick"), "quick\n");
    end(&mut keeper, &preloader);
}

#[test]
fn the_death_of_a_preloader_is_the_end_of_what_waits_for_it() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let ended = "the preloader ended, or what it forked did, before the worker had announced itself";
    let plan = standin(&mut keeper, "exits");
    let preloader = preloaded(&mut keeper, &plan);
    assert_eq!(fork_fails(&mut keeper, &plan, &preloader), ended);
    reap(preloader.pid);
    let gone = "the preloader that it was to be forked from is gone, or has not loaded the application";
    wait_for("its channel to end", || (fork_fails(&mut keeper, &plan, &preloader) == gone).then_some(()));

    let plan = standin(&mut keeper, "holds");
    let preloader = preloaded(&mut keeper, &plan);
    let waiting: Vec<Worker> = (0..3).map(|_| ask(&mut keeper, &plan, &preloader)).collect();
    for _ in &waiting {
        assert_eq!(read_line(&preloader.stdout), "holds");
    }
    end(&mut keeper, &preloader);
    for _ in &waiting {
        match keeper.receive().0 {
            FromSpawner::SpawnFailed { report, preloader_lost: true, .. } => assert_eq!(report.problem, ended),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fork_fails(&mut keeper, &plan, &preloader), gone);
}

#[test]
fn preloaders_leave_with_the_spawner_and_workers_stay() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "good");
    let preloader = preloaded(&mut keeper, &plan);
    let worker = fork(&mut keeper, &plan, &preloader);
    read_line(&worker.stdout);
    // Its death leaves everything to the keeper, and to itself.
    keeper.spawner.kill().unwrap();
    keeper.spawner.wait().unwrap();
    take_in(preloader.pid);
    assert!(runs(worker.pid));
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_fork_that_can_not_be_told_all_that_it_needs_is_not_made() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "good");
    let preloader = preloaded(&mut keeper, &plan);
    let start_as = StartAs::ForkOf(preloader.number);
    let asked = keeper.ask_for(&plan, start_as, Some(b"/notify"), WorkerNumber(next()));
    let report = failure_of(&mut keeper, &asked, true);
    assert!(report.problem.contains("can't be told where to say that it is ready"), "{report:?}");
    // A worker that was started by itself is nobody's preloader.
    let plan = standin(&mut keeper, "good");
    let sleeper = keeper.plan(&["sleep", "1000"]);
    let other = keeper.spawn(&sleeper);
    fork_fails(&mut keeper, &plan, &other);
    end(&mut keeper, &other);
    end(&mut keeper, &preloader);
}
