//! Our loaders: what they are given, and what is made of what they say.

use crate::keeper::{Keeper, PATIENCE, Worker, kill, next, read_all, read_line, reap, skip, user};
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::link::{
    FromSpawner, Identity, LaunchPlan, Loader, Loading, Program, StartAs, ToSpawner, WorkerNumber,
};
use hatchery_protocol::report::{Setup, SpawnReport, SpawnStep};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

const PYTHON: &str = "/usr/bin/python3";
const RUBY: &str = "/usr/bin/ruby";

/// The system's own Python, which every user may execute.
pub(crate) fn has_python() -> bool {
    let has = Path::new(PYTHON).exists();
    if !has {
        skip(&format!("loaders: there is no {PYTHON}"));
    }
    has
}

/// The system's own Ruby, with the library that Rack apps are made with.
pub(crate) fn has_rack() -> bool {
    let mut ruby = std::process::Command::new(RUBY);
    let has =
        ruby.args(["-e", "require 'rack'"]).stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success());
    if !has {
        skip(&format!("the loader for Rack: there is no {RUBY} with rack"));
    }
    has
}

/// A plan for the real loader of Python apps.
pub(crate) fn real(keeper: &Keeper, app: &Path, entry: &str) -> LaunchPlan {
    loaded_by(keeper, app, Loader::Wsgi, entry)
}

pub(crate) fn loaded_by(keeper: &Keeper, app: &Path, loader: Loader, entry: &str) -> LaunchPlan {
    let mut plan = keeper.plan(&[]);
    plan.directory = app.canonicalize().unwrap().as_os_str().as_bytes().to_vec();
    plan.protocol = SessionProtocol::Session;
    let interpreter = vec![if loader == Loader::Rack { RUBY } else { PYTHON }.into()];
    plan.program = Program::Loader(Loading { loader, interpreter, entry: entry.into(), preload: true });
    plan.setup = Setup { command: vec!["python3".into()], directory: "/apps/test".into(), ..Setup::default() };
    plan
}

/// A plan for what plays a loader in the way that `entry` says.
pub(crate) fn standin(keeper: &mut Keeper, entry: &str) -> LaunchPlan {
    let app = keeper.app(&[("standin.py", include_str!("standin.py"))]);
    let mut plan = real(keeper, &app, entry);
    let Program::Loader(loading) = &mut plan.program else { unreachable!("it was made so") };
    loading.interpreter.push(app.join("standin.py").to_str().unwrap().into());
    plan
}

pub(crate) fn preload(keeper: &mut Keeper, plan: &LaunchPlan) -> Worker {
    let asked = keeper.ask_for(plan, StartAs::Preloader, None, WorkerNumber(next()));
    keeper.started(asked)
}

/// A preloader that has loaded its app.
pub(crate) fn preloaded(keeper: &mut Keeper, plan: &LaunchPlan) -> Worker {
    let preloader = preload(keeper, plan);
    match keeper.receive().0 {
        FromSpawner::Preloaded { worker, unfit: None } if worker == preloader.number => preloader,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn nobody() -> Identity {
    let nobody = user("nobody");
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    Identity { uid, gid, groups: vec![gid], name: nobody.name, home: b"/nonexistent".to_vec(), shell: Vec::new() }
}

pub(crate) fn end(keeper: &mut Keeper, worker: &Worker) {
    kill(worker.pid);
    reap(worker.pid);
    keeper.send(&ToSpawner::Gone { worker: worker.number });
}

fn load_failed(keeper: &mut Keeper, worker: &Worker) -> SpawnReport {
    match keeper.receive().0 {
        FromSpawner::LoadFailed { worker: number, report } if number == worker.number => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_loader_has_its_text_at_4_control_at_5_and_nothing_else() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "look");
    let worker = keeper.spawn(&plan);
    let expected = "0 /dev/null\n1 pipe\n2 pipe\n3 socket\n4 /memfd\n5 socket\n\
                    arguments /proc/self/fd/4 wsgi look --threads=1\nlisten 1 True\ntext True ";
    let output = read_all(&worker.stdout);
    assert!(output.starts_with(expected), "{output}");
    reap(worker.pid);

    let preloader = preload(&mut keeper, &plan);
    // What is at 3 keeps the app from opening something there, where a forked worker gets its listener.
    let expected = "0 /dev/null\n1 pipe\n2 pipe\n3 /dev/null\n4 /memfd\n5 socket\n\
                    arguments /proc/self/fd/4 wsgi look --threads=1 --preload\nlisten None False\ntext True ";
    let output = read_all(&preloader.stdout);
    assert!(output.starts_with(expected), "{output}");
    reap(preloader.pid);
}

#[test]
fn a_loader_of_another_user_can_read_its_text() {
    if !crate::keeper::is_root("a loader of another user") || !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let mut plan = standin(&mut keeper, "look");
    plan.identity = Some(nobody());
    let worker = keeper.spawn(&plan);
    let output = read_all(&worker.stdout);
    assert!(output.ends_with(&format!("text True {}\n", nobody().uid)), "{output}");
    reap(worker.pid);
}

#[test]
fn what_a_loader_says_of_its_app_is_reported_and_shown_safely() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "failed");
    let worker = keeper.spawn(&plan);
    let report = load_failed(&mut keeper, &worker);
    assert_eq!((report.step, report.root.as_str()), (SpawnStep::Load, "/apps/test"));
    assert_eq!((report.problem.as_str(), report.remedy.as_str()), ("flask is missing\\u{1b}[2J", "install it"));
    let setup = report.setup.unwrap();
    assert_eq!((setup.command, setup.directory.as_str()), (vec!["python3".to_owned()], "/apps/test"));
    assert!(!setup.user.is_empty());
    reap(worker.pid);

    let preloader = preload(&mut keeper, &plan);
    let report = load_failed(&mut keeper, &preloader);
    assert_eq!(report.problem, "shop.py, line 7: a bracket is missing");
    assert!(!report.remedy.is_empty());
    reap(preloader.pid);
}

#[test]
fn a_preloader_that_is_not_to_be_forked_from_is_told_with_its_reason() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "unfit");
    let preloader = preload(&mut keeper, &plan);
    let unfit = Some("it runs 2 threads".to_owned());
    assert_eq!(keeper.receive().0, FromSpawner::Preloaded { worker: preloader.number, unfit });
    reap(preloader.pid);
}

#[test]
fn who_says_what_no_loader_says_is_not_listened_to() {
    if !has_python() {
        return;
    }
    let mut keeper = Keeper::start();
    let plan = standin(&mut keeper, "nonsense");
    let worker = keeper.spawn(&plan);
    reap(worker.pid);
    // The next answer is to the next question.
    assert_eq!(keeper.output_of("echo next"), "next\n");

    let plan = standin(&mut keeper, "flood");
    let preloader = preloaded(&mut keeper, &plan);
    assert_eq!(read_line(&preloader.stdout), "not listened to");
    assert_eq!(keeper.output_of("echo next"), "next\n");
    end(&mut keeper, &preloader);
}

#[test]
fn a_node_app_listens_at_the_inherited_socket() {
    let node = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("node")).find(|program| program.is_file())
    });
    let Some(node) = node else { return skip("the loader for Node: there is no node on the PATH") };
    let mut keeper = Keeper::start();
    let server = "require('http').createServer((request, response) => response.end('hello')).listen(80)";
    let app = keeper.app(&[("server.js", server)]);
    let mut plan = loaded_by(&keeper, &app, Loader::Node, "server.js");
    plan.protocol = SessionProtocol::Http;
    let Program::Loader(loading) = &mut plan.program else { unreachable!("it was made so") };
    loading.interpreter = vec![node.into_os_string().into_encoded_bytes()];
    // Each reads the text from its beginning.
    for _ in 0..2 {
        let worker = keeper.spawn(&plan);
        let address = worker.listener.local_addr().unwrap();
        let mut stream = UnixStream::connect(address.as_pathname().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello") || answer.contains("hello\r\n"), "{answer}");
        end(&mut keeper, &worker);
    }
}

#[test]
fn an_interpreter_that_is_missing_is_named_with_what_to_install() {
    let mut keeper = Keeper::start();
    for (interpreter, loader, problem, remedy) in [
        (
            "python4",
            Loader::Wsgi,
            "python4 (Python 3), which the application is run by, is not on the PATH (",
            "Install Python 3 (the package `python3`), or set PATH in [env]",
        ),
        (
            "/apps/shop/.venv/bin/python",
            Loader::Asgi,
            "the interpreter /apps/shop/.venv/bin/python (Python 3), which the application is run by, does not exist",
            "Install Python 3 (the package `python3`); if it is that of a virtual environment",
        ),
        ("rubi", Loader::Rack, "rubi (Ruby), which", "Install Ruby (the package `ruby`)"),
        ("nodde", Loader::Node, "nodde (Node.js), which", "Install Node.js (the package `nodejs`)"),
    ] {
        let mut plan = keeper.plan(&[]);
        let interpreter = vec![interpreter.into()];
        plan.program = Program::Loader(Loading { loader, interpreter, entry: b"x".to_vec(), preload: false });
        let report = keeper.spawn_fails(&plan);
        assert!(report.problem.starts_with(problem), "{report:?}");
        assert!(report.remedy.starts_with(remedy), "{report:?}");
        assert_eq!(report.step, SpawnStep::Execute);
    }
}

#[test]
fn what_can_not_be_preloaded_is_not() {
    let mut keeper = Keeper::start();
    let command = keeper.plan(&["true"]);
    let mut node = keeper.plan(&[]);
    let interpreter = vec![b"node".to_vec()];
    let entry = b"server.js".to_vec();
    node.program = Program::Loader(Loading { loader: Loader::Node, interpreter, entry, preload: true });
    for plan in [command, node] {
        let asked = keeper.ask_for(&plan, StartAs::Preloader, None, WorkerNumber(next()));
        match keeper.receive().0 {
            FromSpawner::SpawnFailed { worker, report, preloader_lost: false } if worker == asked.number => {
                assert_eq!(report.problem, "workers of this application can't be forked");
            }
            other => panic!("{other:?}"),
        }
    }
}
