//! How an app is found, and what is said where it can't be started.

use nix::sys::signal::Signal;

use crate::harness::{App, Failure, Worker};
use crate::python::launch;
use crate::session::Session;

const HELLO: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [('hello from %s' % __name__).encode()]
";

fn start(test: &str, kind: &str, app: &App, entry: &str) -> Option<Worker> {
    Some(launch(test, kind, app, entry, 1)?.direct())
}

/// What the loader says of an app that can't be started: by itself and in a preloader alike.
fn failure(test: &str, kind: &str, app: &App, entry: &str) -> Option<(Failure, String)> {
    let mut preloader = launch(test, kind, app, entry, 1)?.preload();
    let before = preloader.channel.failure();
    assert_eq!(preloader.process.wait(), 1);
    let mut worker = start(test, kind, app, entry)?;
    let failure = worker.channel.failure();
    assert_eq!(worker.process.wait(), 1);
    assert_eq!((&before.code, &before.problem), (&failure.code, &failure.problem));
    let log = worker.process.error.whole();
    assert!(!log.contains("/proc/self/fd"), "the loader's own lines are nobody's business: {log}");
    Some((failure, log))
}

#[test]
fn an_entry_is_a_module_or_a_file_with_or_without_a_name() {
    let factory = format!("{HELLO}\ndef make():\n    return application\nclass inner:\n    made = application\n");
    let app = App::new(&[
        ("shop/wsgi.py", &factory),
        ("plain.py", HELLO),
        ("my-app.py", HELLO),
        ("io.py", HELLO),
        ("other.py", &HELLO.replace("application", "app")),
    ]);
    for (entry, module) in [
        ("shop.wsgi", "shop.wsgi"),
        ("shop.wsgi:application", "shop.wsgi"),
        ("shop.wsgi:make()", "shop.wsgi"),
        ("shop.wsgi:inner.made", "shop.wsgi"),
        ("shop/wsgi.py", "shop.wsgi"),
        ("shop/wsgi.py:make()", "shop.wsgi"),
        ("plain", "plain"),
        ("plain.py", "plain"),
        ("my-app.py", "my_app"),
        // Of the standard library's name, and so imported before it.
        ("io.py", "app_io"),
        ("other.py", "other"),
    ] {
        let Some(worker) = start("entries", "wsgi", &app, entry) else { return };
        let answer = Session::new(&worker).get("/");
        assert_eq!(answer.text(), format!("hello from {module}"), "{entry}");
    }
}

#[test]
fn an_app_sees_itself_started_in_its_root() {
    let app = App::new(&[(
        "look.py",
        r"
import sys, os
descriptors = sorted(int(n) for n in os.listdir('/proc/self/fd'))
inherited = [n for n in descriptors if os.path.exists('/proc/self/fd/%d' % n) and os.get_inheritable(n)]
def application(environ, start_response):
    start_response('200 OK', [])
    main = sys.modules['__main__']
    return [repr((sys.path[0], sys.argv, getattr(main, '__file__', None), 'hatchery' in sys.modules, inherited)).encode()]
",
    )]);
    let Some(worker) = start("the root", "wsgi", &app, "look.py") else { return };
    let root = app.root();
    let expected = format!("('{}', ['look.py'], None, True, [0, 1, 2])", root.display());
    assert_eq!(Session::new(&worker).get("/").text(), expected);
}

#[test]
fn why_an_app_cant_be_imported_is_told_with_file_line_and_remedy() {
    let app = App::new(&[
        ("typo.py", "x = 1\ndef application(:\n"),
        ("needs.py", "\nimport not_there_at_all.sub\n"),
        ("raises.py", "\n\nimport helper\n"),
        ("helper.py", "def check():\n    raise ValueError('no\\nluck')\ncheck()\n"),
        ("leaves.py", "import sys\nsys.exit('enough')\n"),
        (
            "nothing.py",
            "def serve(e, s): pass\ndef other(e, s): pass\nclass C: pass\nfrom os.path import join\nx = 1\n",
        ),
        ("number.py", "application = 1\n"),
        ("maker.py", "def make():\n    return 1 / 0\n"),
        ("package/__init__.py", ""),
        (
            "asgi.py",
            "async def app(scope, receive, send): pass\nclass A:\n  async def __call__(self, scope, receive, send): pass\na = A()\n",
        ),
        ("wsgi.py", HELLO),
        ("threads.py", "import threading, time\nthreading.Thread(target=time.sleep, args=[1000]).start()\n1/0\n"),
    ]);
    let root = app.root();
    let root = root.display();
    let cases = [
        ("wsgi", "typo", "syntax", format!("{root}/typo.py, line 2: "), "Correct it"),
        (
            "wsgi",
            "needs",
            "module",
            format!("{root}/needs.py, line 2 needs the module not_there_at_all"),
            "pip install not_there_at_all",
        ),
        ("wsgi", "raises", "exception", format!("{root}/helper.py, line 2: ValueError: no"), "traceback"),
        (
            "wsgi",
            "leaves",
            "exit",
            format!("{root}/leaves.py, line 2 left while the app was imported, with 'enough'"),
            "__main__",
        ),
        ("wsgi", "nothing", "entry", format!("{root}/nothing.py has no `application` or `app`"), "it has other, serve"),
        ("wsgi", "nothing.py:serf", "entry", format!("{root}/nothing.py has no `serf`"), "entry = \"nothing.py:NAME\""),
        ("wsgi", "number", "entry", "number is no application: int can't be called".into(), "Name what can be called"),
        ("wsgi", "maker:make()", "exception", format!("{root}/maker.py, line 2: ZeroDivisionError: "), "traceback"),
        ("wsgi", "absent", "entry", format!("there is no module absent in {root}"), "Name the app's module"),
        (
            "wsgi",
            "package.absent",
            "entry",
            format!("there is no module package.absent in {root}"),
            "Name the app's module",
        ),
        ("wsgi", "absent.py", "entry", format!("there is no file {root}/absent.py"), "Name the app's file"),
        ("wsgi", "asgi", "entry", "asgi is an ASGI application".into(), "type = \"asgi\""),
        ("wsgi", "asgi:a", "entry", "asgi:a is an ASGI application".into(), "type = \"asgi\""),
        ("asgi", "wsgi", "entry", "wsgi is a WSGI application".into(), "type = \"wsgi\""),
        ("wsgi", "threads", "exception", format!("{root}/threads.py, line 3: ZeroDivisionError"), "traceback"),
    ];
    for (kind, entry, code, problem, remedy) in cases {
        let Some((failure, log)) = failure("failures at import", kind, &app, entry) else { return };
        assert_eq!(failure.code, code, "{entry}: {failure:?}");
        assert!(failure.problem.starts_with(&problem), "{entry}: {failure:?}");
        assert!(failure.remedy.contains(remedy), "{entry}: {failure:?}");
        assert!(!failure.problem.contains('\n') && !log.is_empty(), "{entry}: {failure:?} {log}");
    }
}

#[test]
fn a_name_of_the_apps_own_is_not_taken_by_the_module_for_hooks() {
    let app = App::new(&[
        ("hatchery/__init__.py", "mine = 'my own'\n"),
        ("main.py", "import hatchery\ndef app(e, s):\n    s('200 OK', [])\n    return [hatchery.mine.encode()]\n"),
    ]);
    let Some(worker) = start("a module named hatchery", "wsgi", &app, "main") else { return };
    assert_eq!(Session::new(&worker).get("/").text(), "my own");
}

#[test]
fn hooks_run_before_the_first_request_and_after_the_last() {
    let hooks = r"
import hatchery
@hatchery.on_start
def begun(forked):
    print('on_start', forked, hatchery.preloading)
hatchery.on_stop(lambda: 1 / 0)
hatchery.on_stop(lambda: print('on_stop'))
hatchery.before_fork(lambda: print('never'))
";
    let app = App::new(&[
        ("main.py", &format!("{hooks}{HELLO}")),
        ("fails.py", &format!("import hatchery\n@hatchery.on_start\ndef begun(forked):\n    1 / 0\n{HELLO}")),
    ]);
    let Some(mut worker) = start("hooks", "wsgi", &app, "main") else { return };
    assert_eq!(Session::new(&worker).get("/").status, 200);
    assert_eq!(worker.process.output.until("False\n"), "on_start False False\n");
    worker.process.signal(Signal::SIGTERM);
    assert_eq!(worker.process.wait(), 0);
    assert_eq!(worker.process.output.whole(), "on_start False False\non_stop\n");
    assert!(worker.process.error.whole().contains("ZeroDivisionError"));

    let mut worker = start("hooks", "wsgi", &app, "fails").unwrap();
    let failure = worker.channel.failure();
    assert_eq!(failure.code, "hook");
    assert!(failure.problem.starts_with("the hook on_start `begun` failed: ZeroDivisionError"), "{failure:?}");
    assert_eq!(worker.process.wait(), 1);
}
