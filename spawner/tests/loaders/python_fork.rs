//! Workers that are forked from a preloader.

use nix::sys::signal::Signal;

use crate::harness::{App, Preloader, Worker};
use crate::python::launch;
use crate::session::Session;

const APP: &str = r#"
import hatchery, os, random, sys
shared = os.getpid()
hatchery.before_fork(lambda: print("before_fork"))
hatchery.on_start(lambda forked: print("on_start", forked))
hatchery.on_stop(lambda: print("on_stop"))

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/random":
        return [repr(random.random()).encode()]
    print("a line of", os.environ["HATCHERY_WORKER"])
    open_now = sorted(int(n) for n in os.listdir("/proc/self/fd"))
    links = [os.readlink("/proc/self/fd/%d" % n) for n in open_now if os.path.exists("/proc/self/fd/%d" % n)]
    facts = {
        "imported by": shared,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "LISTEN_PID": os.environ["LISTEN_PID"],
        "LISTEN_FDS": os.environ["LISTEN_FDS"],
        "sockets": sum(link.startswith("socket:") for link in links),
        "preloading": hatchery.preloading,
    }
    return ["".join("%s=%s\n" % fact for fact in facts.items()).encode()]
"#;

fn preload(test: &str, source: &str) -> Option<(App, Preloader)> {
    let app = App::new(&[("main.py", source)]);
    let preloader = launch(test, "wsgi", &app, "main", 1)?.preload();
    Some((app, preloader))
}

#[test]
fn workers_are_forked_from_an_app_that_was_imported_once() {
    let Some((_app, mut preloader)) = preload("forks", APP) else { return };
    preloader.ready();
    let workers: Vec<Worker> = (1..4).map(|number| preloader.fork(&format!("test.0.{number}"))).collect();
    for (number, worker) in (1..).zip(&workers) {
        let text = Session::new(worker).get("/").text();
        let (pid, keeper) = (worker.process.pid, std::process::id());
        // Its listener and this connection: neither control, nor announce, nor anything of the others.
        let expected = format!(
            "imported by={}\npid={pid}\nparent={keeper}\nsession={pid}\nLISTEN_PID={pid}\nLISTEN_FDS=1\nsockets=2\npreloading=True\n",
            preloader.process.pid
        );
        assert_eq!(text, expected);
        assert_eq!(worker.channel.receive(), None, "the announcement is over once it serves");
        worker.process.output.until(&format!("on_start True\na line of test.0.{number}\n"));
    }
    let numbers: Vec<String> = workers.iter().map(|worker| Session::new(worker).get("/random").text()).collect();
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
    assert_eq!(preloader.process.output.until(&"before_fork\n".repeat(3)), "before_fork\n".repeat(3));
    for mut worker in workers {
        worker.process.signal(Signal::SIGTERM);
        assert_eq!(worker.process.wait(), 0);
        assert!(worker.process.output.whole().ends_with("on_stop\n"));
        assert_eq!(worker.process.error.whole(), "");
    }
    assert!(preloader.process.is_running());
}

#[test]
fn a_preloader_leaves_when_its_spawner_has_or_when_it_is_told() {
    let Some((_app, preloader)) = preload("the end of orders", APP) else { return };
    preloader.ready();
    let worker = preloader.fork("test.0.1");
    assert_eq!(Session::new(&worker).get("/random").status, 200);
    let Preloader { mut process, channel } = preloader;
    drop(channel);
    assert_eq!(process.wait(), 0, "{}", process.error.so_far());
    assert_eq!(Session::new(&worker).get("/random").status, 200, "its workers live on");

    let (_app, mut preloader) = preload("the end of orders", APP).unwrap();
    preloader.ready();
    preloader.process.signal(Signal::SIGTERM);
    assert_eq!(preloader.process.wait(), 0);
}

#[test]
fn a_worker_is_tied_to_its_parents_life_by_the_kernel_or_else_by_its_log() {
    let look = r#"
import ctypes
def application(environ, start_response):
    signal = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)  # PR_GET_PDEATHSIG
    start_response("200 OK", [])
    return [str(signal.value).encode()]
"#;
    let Some((_app, preloader)) = preload("parents", look) else { return };
    preloader.ready();
    assert_eq!(Session::new(&preloader.fork("test.0.1")).get("/").text(), "9");

    let app = App::new(&[
        ("main.py", &APP.replace("print(\"a line", "0 and print(\"")),
        ("ctypes.py", "raise ImportError('no ctypes here')"),
    ]);
    let preloader = launch("parents", "wsgi", &app, "main", 1).unwrap().preload();
    preloader.ready();
    let mut worker = preloader.fork("test.0.1");
    assert_eq!(Session::new(&worker).get("/").status, 200);
    assert!(worker.process.is_running());
    worker.process.output.close();
    assert_eq!(worker.process.wait(), 0, "who reads the log is gone");
}

#[test]
fn a_worker_that_is_not_let_go_leaves() {
    let Some((_app, preloader)) = preload("unwanted workers", APP) else { return };
    preloader.ready();
    let Worker { mut process, channel, .. } = preloader.order("test.0.1");
    drop(channel);
    assert_eq!(process.wait(), 0);
    assert_eq!(Session::new(&preloader.fork("test.0.2")).get("/random").status, 200);
}

#[test]
fn a_hook_that_fails_fails_its_worker_and_no_other() {
    let source = format!("{APP}\n@hatchery.on_start\ndef connect(forked):\n    os.stat('there')\n");
    let Some((app, preloader)) = preload("failing hooks", &source) else { return };
    preloader.ready();
    let mut worker = preloader.fork("test.0.1");
    let failure = worker.channel.failure();
    assert_eq!(failure.code, "hook");
    assert!(failure.problem.starts_with("the hook on_start `connect` failed: FileNotFoundError"), "{failure:?}");
    assert_eq!(worker.process.wait(), 1);
    let log = worker.process.error.whole();
    assert!(log.contains("Traceback") && log.contains("main.py"), "{log}");
    app.write("there", "");
    assert_eq!(Session::new(&preloader.fork("test.0.2")).get("/random").status, 200);
}

#[test]
fn a_hook_before_the_fork_that_fails_is_told_where_the_worker_would_have_been() {
    let source = format!("{APP}\nhatchery.before_fork(lambda: os.stat('there'))\n");
    let Some((app, preloader)) = preload("failing hooks", &source) else { return };
    preloader.ready();
    let failure = preloader.order_in_vain("test.0.1").failure();
    assert_eq!(failure.code, "hook");
    assert!(failure.problem.starts_with("the hook before_fork `<lambda>` failed: FileNotFoundError"), "{failure:?}");
    app.write("there", "");
    assert_eq!(Session::new(&preloader.fork("test.0.2")).get("/random").status, 200);
}

#[test]
fn an_app_that_has_its_children_reaped_by_the_kernel_is_forked_from() {
    let source = format!("import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{APP}");
    let Some((_app, preloader)) = preload("ignored children", &source) else { return };
    preloader.ready();
    assert_eq!(Session::new(&preloader.fork("test.0.1")).get("/random").status, 200);
    assert_eq!(preloader.process.error.so_far(), "");
}

#[test]
fn an_app_that_runs_threads_once_imported_is_unfit() {
    let source = format!(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[1000], name='ticker').start()\n{APP}"
    );
    let Some((_app, mut preloader)) = preload("unfit apps", &source) else { return };
    let words = preloader.channel.receive().unwrap();
    assert_eq!(words[0], "unfit");
    assert_eq!(words[1], "importing it starts threads, which a fork would lose (ticker)");
    assert_eq!(preloader.process.wait(), 0);
}

#[test]
fn what_an_app_opens_while_it_is_imported_is_in_no_ones_way() {
    let source = format!("import tempfile\nkept = [tempfile.TemporaryFile() for _ in range(20)]\n{APP}");
    let Some((_app, preloader)) = preload("files of the import", &source) else { return };
    preloader.ready();
    let workers: Vec<Worker> = (1..4).map(|number| preloader.fork(&format!("test.0.{number}"))).collect();
    for worker in &workers {
        assert!(Session::new(worker).get("/").text().contains("sockets=2"));
    }
}

#[test]
fn collection_of_garbage_is_as_the_app_has_it_and_what_was_imported_is_set_aside() {
    let look = "
import gc
def application(environ, start_response):
    start_response('200 OK', [])
    return [repr((gc.isenabled(), gc.get_freeze_count() > 1000)).encode()]
";
    for (source, expected) in [(look.to_string(), "(True, True)"), (format!("{look}gc.disable()\n"), "(False, True)")] {
        let Some((_app, preloader)) = preload("garbage", &source) else { return };
        preloader.ready();
        assert_eq!(Session::new(&preloader.fork("test.0.1")).get("/").text(), expected);
    }
}
