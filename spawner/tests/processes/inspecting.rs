//! Looking into an app's root.

use crate::keeper::{Keeper, is_root, next, readable, wait_for};
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::link::{AppNumber, FromSpawner, Listen, Loader, Program, ToSpawner};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::report::SpawnStep;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_manifest_says_how_the_app_is_started() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = ['server', '--x']\nconcurrency = 3\n")]);
    let plan = keeper.inspect(&app, AppOptions::default()).unwrap();
    assert_eq!(plan.program, Program::Command(vec![b"server".to_vec(), b"--x".to_vec()]));
    assert_eq!(plan.concurrency, 3);
}

#[test]
fn what_is_wrong_is_told_with_step_problem_and_remedy() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "\ncomand = 'server'\n")]);
    let report = keeper.inspect(&app, AppOptions::default()).unwrap_err();
    assert_eq!(report.step, SpawnStep::Inspect);
    assert_eq!(report.root, app.display().to_string());
    assert_eq!(report.problem, "hatchery.toml, line 2, column 1: `comand` is no key of this file");
    assert!(report.remedy.starts_with("Did you mean `command`?"));

    let report = keeper.inspect(Path::new("/nonexistent/app"), AppOptions::default()).unwrap_err();
    assert_eq!(report.problem, "/nonexistent does not exist");
}

/// An interpreter of each kind, in a folder of the keeper's.
fn with_interpreters() -> (Keeper, AppOptions) {
    let keeper = Keeper::start();
    let programs = ["python3", "ruby", "node", "php-cgi"].map(|name| (name, "#!/bin/sh\n"));
    let path = keeper.app(&programs);
    for (name, _) in programs {
        std::fs::set_permissions(path.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let env = vec![("PATH".to_owned(), path.display().to_string())];
    (keeper, AppOptions { env, ..AppOptions::default() })
}

#[test]
fn an_app_without_a_manifest_is_started_by_what_lies_in_its_folder() {
    let (mut keeper, options) = with_interpreters();
    for (file, text, loader, protocol, concurrency) in [
        ("config.ru", "", Loader::Rack, SessionProtocol::Session, 1),
        ("app.py", "app = Flask()", Loader::Wsgi, SessionProtocol::Session, 1),
        ("app.py", "app = FastAPI()", Loader::Asgi, SessionProtocol::Http, 0),
        ("server.js", "", Loader::Node, SessionProtocol::Http, 0),
    ] {
        let app = keeper.app(&[(file, text)]);
        let plan = keeper.inspect(&app, options.clone()).unwrap();
        let Program::Loader(loading) = &plan.program else { panic!("{plan:?}") };
        assert_eq!((loading.loader, loading.preload), (loader, loader != Loader::Node));
        assert_eq!((plan.listen, plan.protocol, plan.concurrency), (Listen::Fd, protocol, concurrency));
        let own = format!("(hatchery's {} loader)", loader.name());
        assert_eq!(plan.setup.command[1..], [own, String::from_utf8(loading.entry.clone()).unwrap()]);
        assert_eq!(plan.setup.directory, app.canonicalize().unwrap().display().to_string());
        assert!(!plan.setup.user.is_empty());
    }
}

#[test]
fn php_gets_its_documents_and_makes_no_processes_of_its_own() {
    let (mut keeper, options) = with_interpreters();
    let app = keeper.app(&[("index.php", "")]);
    let plan = keeper.inspect(&app, options).unwrap();
    let words = [&b"php-cgi"[..], b"-d", b"cgi.fix_pathinfo=0"];
    assert_eq!(plan.program, Program::Command(words.map(<[u8]>::to_vec).to_vec()));
    assert_eq!((plan.listen, plan.protocol), (Listen::Stdin, SessionProtocol::Fastcgi));
    let documents = plan.documents.unwrap();
    assert_eq!(documents.root, app.canonicalize().unwrap().as_os_str().as_bytes());
    assert_eq!(documents.index.as_deref(), Some(&b"index.php"[..]));
    for variable in ["PHP_FCGI_CHILDREN", "PHP_FCGI_MAX_REQUESTS"] {
        assert!(plan.env.contains(&(variable.into(), b"0".to_vec())), "{:?}", plan.env);
    }
}

#[test]
fn a_manifest_that_starts_nothing_holds_for_what_is_recognised() {
    let (mut keeper, options) = with_interpreters();
    let rest = "concurrency = 4\n[env]\nBUNDLE_GEMFILE = \"other\"\n";
    let app = keeper.app(&[("config.ru", ""), ("Gemfile", ""), ("hatchery.toml", rest)]);
    let plan = keeper.inspect(&app, options.clone()).unwrap();
    assert_eq!(plan.concurrency, 4);
    let gemfile = plan.env.iter().rfind(|(name, _)| name == b"BUNDLE_GEMFILE").unwrap();
    assert_eq!(gemfile.1, b"other", "the last holds");

    let app = keeper.app(&[("config.ru", ""), ("hatchery.toml", "protocol = \"http\"\n")]);
    let report = keeper.inspect(&app, options).unwrap_err();
    let expected = "`protocol` can't be said of an app of `type = \"rack\"`, which config.ru shows that it is";
    assert_eq!(report.problem, format!("hatchery.toml: {expected}"));
}

#[test]
fn an_environment_of_python_is_set_for_the_app_and_what_it_executes() {
    let (mut keeper, options) = with_interpreters();
    let app = keeper.app(&[("wsgi.py", "application = 1")]);
    std::fs::create_dir_all(app.join(".venv/bin")).unwrap();
    std::fs::write(app.join(".venv/pyvenv.cfg"), "").unwrap();
    std::os::unix::fs::symlink("/bin/sh", app.join(".venv/bin/python3")).unwrap();
    let plan = keeper.inspect(&app, options.clone()).unwrap();
    let venv = app.canonicalize().unwrap().join(".venv").display().to_string();
    let Program::Loader(loading) = &plan.program else { panic!("{plan:?}") };
    assert_eq!(loading.interpreter, [format!("{venv}/bin/python3").into_bytes()]);
    let last =
        |name: &str| plan.env.iter().rfind(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.clone());
    assert_eq!(last("VIRTUAL_ENV").unwrap(), venv.as_bytes());
    assert_eq!(last("PATH").unwrap(), format!("{venv}/bin:{}", options.env[0].1).into_bytes());
}

#[test]
fn a_missing_interpreter_is_named_with_what_to_install() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("config.ru", "")]);
    let env = vec![("PATH".to_owned(), "/nonexistent:/neither".to_owned())];
    let report = keeper.inspect(&app, AppOptions { env, ..AppOptions::default() }).unwrap_err();
    assert_eq!(report.problem, "config.ru needs ruby, and there is none on the PATH (/nonexistent:/neither)");
    assert!(report.remedy.contains("apt install ruby"), "{report:?}");
}

#[test]
fn a_report_shows_the_environment_without_what_may_be_secret() {
    let mut keeper = Keeper::start();
    let manifest = "command = 'server --password=s3cr3t-w0rd postgres://ann:s3cr3t-w0rd@db'\nlisten = 'port'\n[env]\nDB_PASSWORD = 's3cr3t-w0rd'\nA = 'b'\n";
    let app = keeper.app(&[("hatchery.toml", manifest)]);
    let options = AppOptions { nice: Some(5), limit_nofile: Some(100), ..AppOptions::default() };
    let setup = keeper.inspect(&app, options).unwrap().setup;
    assert!(!format!("{setup:?}").contains("s3cr3t-w0rd"), "{setup:?}");
    assert_eq!(setup.command, ["server", "--password=(hidden)", "postgres://ann:(hidden)@db"]);
    for (name, value) in [("DB_PASSWORD", "(hidden)"), ("A", "b"), ("PORT", "(its port)"), ("APP_ENV", "production")] {
        assert!(setup.environment.contains(&(name.into(), value.into())), "{name} in {setup:?}");
    }
    assert_eq!(setup.limits, [("limit_nofile".into(), "100".into()), ("nice".into(), "5".into())]);
}

#[test]
fn what_is_started_belongs_to_who_owns_the_folder() {
    const DAEMON: u32 = 1;
    const NOBODY: u32 = 65534;
    if !is_root("files of other users") {
        return;
    }
    let (mut keeper, options) = with_interpreters();
    for (file, text) in [("config.ru", ""), ("app.py", "app = 1"), ("Procfile", "web: a"), ("server.js", "")] {
        let app = keeper.app(&[(file, text)]);
        std::os::unix::fs::chown(&app, Some(NOBODY), None).unwrap();
        std::os::unix::fs::chown(app.join(file), Some(DAEMON), None).unwrap();
        let report = keeper.inspect(&app, options.clone()).unwrap_err();
        let root = app.canonicalize().unwrap().display().to_string();
        assert_eq!(report.problem, format!("{root} belongs to nobody, its {file} to daemon: chown one of them"));
        assert!(report.remedy.contains(&format!("chown nobody {root}/{file}")), "{report:?}");
        std::os::unix::fs::chown(app.join(file), Some(NOBODY), None).unwrap();
        let plan = keeper.inspect(&app, options.clone()).unwrap();
        assert_eq!(plan.identity.map(|identity| identity.uid), Some(NOBODY));
        assert_eq!(plan.setup.user, "nobody");
    }
}

#[test]
fn a_fifo_as_manifest_is_refused_and_not_waited_for() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    nix::unistd::mkfifo(&app.join("hatchery.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let report = keeper.inspect(&app, AppOptions::default()).unwrap_err();
    assert!(report.problem.ends_with("hatchery.toml is a FIFO, not a regular file"), "{report:?}");
}

#[test]
fn many_inspections_are_all_answered() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = 'server'")]);
    let root = app.as_os_str().as_bytes().to_vec();
    let mut wanted: BTreeSet<_> = (0..100).map(|_| AppNumber(next())).collect();
    for app in &wanted {
        let options = Box::new(AppOptions::default());
        keeper.send(&ToSpawner::Inspect { app: *app, generation: 1, root: root.clone(), options });
    }
    while !wanted.is_empty() {
        match keeper.receive().0 {
            FromSpawner::Inspected { app, .. } => assert!(wanted.remove(&app)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_demo_app_is_planned_without_a_look_at_the_disk() {
    let mut keeper = Keeper::start();
    let options = AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() };
    let plan = keeper.inspect(Path::new("demo"), options).unwrap();
    assert_eq!(plan.program, Program::DemoApp);
}

#[test]
fn the_level_that_refuses_is_named_with_its_mode() {
    let Some(mut keeper) = Keeper::start_as_nobody() else { return };
    let app = keeper.app(&[("hatchery.toml", "command = 'true'")]);
    std::fs::set_permissions(keeper.base.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let closed = keeper.base.path().display().to_string();
    let report = keeper.inspect(&app, AppOptions::default()).unwrap_err();
    assert_eq!(report.problem, format!("{closed} can't be entered: its mode is 0700, its owner user 0"));
    assert!(report.remedy.contains(&format!("chmod o+x {closed}")), "{report:?}");

    let mut plan = keeper.plan(&["true"]);
    plan.directory = app.as_os_str().as_bytes().to_vec();
    let report = keeper.spawn_fails(&plan);
    let way = format!("{closed} (on the way to {}) can't be entered: its mode is 0700", app.display());
    assert_eq!(report.problem, way);
}

#[test]
fn an_inspection_that_hangs_is_given_up_and_holds_up_no_other() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[("hatchery.toml", "command = 'server'")]);
    // One is stopped on its way, which hangs it as well as a dead network mount would; most are too quick for that.
    wait_for("an inspection to be caught", || {
        let asked: BTreeSet<_> = (0..50).map(|_| AppNumber(next())).collect();
        for number in &asked {
            let root = app.as_os_str().as_bytes().to_vec();
            keeper.send(&ToSpawner::Inspect { app: *number, generation: 1, root, options: Box::default() });
        }
        let children = format!("/proc/{0}/task/{0}/children", keeper.spawner.id());
        let child = wait_for("a child", || {
            let first = std::fs::read_to_string(&children).unwrap().split(' ').next()?.parse().ok();
            // All may be answered already.
            first.or_else(|| readable(keeper.link(), Duration::ZERO).then_some(0))
        });
        if let Some(child) = rustix::process::Pid::from_raw(child) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::STOP);
        }
        let answers: Vec<_> = asked.iter().map(|_| keeper.receive().0).collect();
        let (last, others) = answers.split_last().unwrap();
        assert!(others.iter().all(|answer| matches!(answer, FromSpawner::Inspected { .. })));
        match last {
            FromSpawner::InspectFailed { report, .. } => {
                assert_eq!(report.problem, format!("looking into {} took longer than 5 s", app.display()));
                Some(())
            }
            _ => None,
        }
    });
    // It was killed, and not left to be looked into for ever.
    wait_for("the app to be looked into again", || keeper.inspect(&app, AppOptions::default()).ok());
}
