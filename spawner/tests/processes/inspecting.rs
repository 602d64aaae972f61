//! Looking into an app's root.

use crate::keeper::{Keeper, next, readable, wait_for};
use hatchery_protocol::link::{AppNumber, FromSpawner, Program, ToSpawner};
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
