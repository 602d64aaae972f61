//! Looking at what can ask for a restart.

use crate::keeper::{Keeper, give, is_root, next, user, wait_for};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{AppNumber, FromSpawner, Sight, ToSpawner};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn look(keeper: &mut Keeper, root: &Path) -> Option<Sight> {
    let app = AppNumber(next());
    keeper.send(&ToSpawner::Look { app, root: root.as_os_str().as_bytes().to_vec() });
    match keeper.receive().0 {
        FromSpawner::Looked { app: other, sight } if app == other => sight.map(|sight| *sight),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_look_tells_target_restart_txt_and_update() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    let target = app.canonicalize().unwrap().as_os_str().as_bytes().to_vec();
    assert_eq!(look(&mut keeper, &app), Some(Sight { target, restart_txt: None, update: None }));
    std::fs::create_dir(app.join("tmp")).unwrap();
    std::fs::write(app.join("tmp/restart.txt"), "").unwrap();
    std::fs::create_dir(app.with_extension("update")).unwrap();
    std::fs::write(app.with_extension("update").join(".complete"), "").unwrap();
    let sight = look(&mut keeper, &app).unwrap();
    assert!(sight.restart_txt.is_some() && sight.update.unwrap().complete, "{sight:?}");
    assert_eq!(look(&mut keeper, Path::new("/nonexistent/app")), None);
}

#[test]
fn every_look_is_answered_once_and_none_is_doubled() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    let root = app.as_os_str().as_bytes().to_vec();
    let numbers: Vec<_> = (0..30).map(|_| AppNumber(next())).collect();
    let mut wanted = Vec::new();
    for app in numbers.iter().chain(&numbers) {
        keeper.send(&ToSpawner::Look { app: *app, root: root.clone() });
        wanted.push(*app);
    }
    let mut answered: Vec<_> = wanted
        .iter()
        .map(|_| match keeper.receive().0 {
            FromSpawner::Looked { app, .. } => app,
            other => panic!("{other:?}"),
        })
        .collect();
    wanted.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, wanted);
}

#[test]
fn a_look_that_hangs_is_given_up_and_holds_up_no_other() {
    let mut keeper = Keeper::start();
    let app = keeper.app(&[]);
    let root = app.as_os_str().as_bytes().to_vec();
    wait_for("a look to be caught", || {
        let asked: BTreeSet<_> = (0..20).map(|_| AppNumber(next())).collect();
        for number in &asked {
            keeper.send(&ToSpawner::Look { app: *number, root: root.clone() });
        }
        let children = format!("/proc/{0}/task/{0}/children", keeper.spawner.id());
        let child = wait_for("a child", || {
            let first = std::fs::read_to_string(&children).unwrap().split(' ').next()?.parse().ok();
            first.or_else(|| crate::keeper::readable(keeper.link(), std::time::Duration::ZERO).then_some(0))
        });
        if let Some(child) = rustix::process::Pid::from_raw(child) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::STOP);
        }
        let answers: Vec<_> = asked.iter().map(|_| keeper.receive().0).collect();
        let missed = answers.iter().filter(|answer| matches!(answer, FromSpawner::Looked { sight: None, .. })).count();
        assert!(missed <= 1, "{answers:?}");
        (missed == 1).then_some(())
    });
    assert!(look(&mut keeper, &app).is_some());
}

#[test]
fn a_look_sees_what_the_apps_user_can_see() {
    if !is_root("apps of several users") {
        return;
    }
    let mut keeper = Keeper::start_configured(PoolConfig { trust_clients: true, min_uid: 1, ..PoolConfig::default() });
    let app = keeper.app(&[("hatchery.toml", "command = 'true'")]);
    let update = app.with_extension("update");
    std::fs::create_dir(&update).unwrap();
    std::fs::write(update.join("file"), "").unwrap();
    give(&app, user("daemon").uid.as_raw());
    assert!(look(&mut keeper, &app).unwrap().update.is_some());
    std::fs::set_permissions(&update, PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(look(&mut keeper, &app).unwrap().update, None);
    give(&update, user("daemon").uid.as_raw());
    assert!(look(&mut keeper, &app).unwrap().update.is_some());
}

#[test]
fn what_a_privileged_pool_does_not_serve_is_not_looked_at() {
    if !is_root("what a privileged pool serves") {
        return;
    }
    let mut keeper = Keeper::start_configured(PoolConfig::default());
    let app = keeper.app(&[]);
    assert_eq!(look(&mut keeper, &app), None);
    // Until the operator has it served.
    let folder = keeper.base.path().as_os_str().as_bytes().to_vec();
    keeper.configure(PoolConfig { apps_under: vec![folder], ..PoolConfig::default() });
    assert!(look(&mut keeper, &app).is_some());
}
