//! Exchanging an app's files.

use crate::keeper::{Keeper, give, is_root, next, user, wait, wait_for};
use hatchery_protocol::config::{AppConfig, PoolConfig};
use hatchery_protocol::link::{AppNumber, FromSpawner, SwapStep, ToSpawner};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MARKER: &str = ".hatchery-deploy";

/// The `n`th app of a core.
fn app_of_core(core: u64) -> AppNumber {
    AppNumber(core << 32 | next())
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn swap(keeper: &mut Keeper, app: AppNumber, root: &Path, step: SwapStep) -> Result<(), SpawnReport> {
    keeper.send(&ToSpawner::Swap { app, root: bytes(root), step });
    match keeper.receive().0 {
        FromSpawner::Swapped { app: other, report } if app == other => report.map_or(Ok(()), |report| Err(*report)),
        other => panic!("{other:?}"),
    }
}

fn refused(keeper: &mut Keeper, root: &Path, step: SwapStep) -> SpawnReport {
    let report = swap(keeper, app_of_core(1), root, step).unwrap_err();
    assert_eq!(report.step, SpawnStep::Update);
    assert!(!report.remedy.is_empty(), "{report:?}");
    report
}

/// The version that an inspection for this app finds.
fn inspected(keeper: &mut Keeper, app: AppNumber, root: &Path) -> String {
    keeper.send(&ToSpawner::Inspect { app, generation: 1, root: bytes(root), options: Box::default() });
    match keeper.receive().0 {
        FromSpawner::Inspected { app: other, plan, .. } if app == other => {
            let hatchery_protocol::link::Program::Command(command) = plan.program else { panic!("no command") };
            String::from_utf8(command.into_iter().next().unwrap()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// A folder that starts with a program named after its version.
fn put(path: &Path, version: &str, owner: u32) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("hatchery.toml"), format!("command = ['{version}']")).unwrap();
    give(path, owner);
}

fn at(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path.join("hatchery.toml")).ok()?;
    text.strip_prefix("command = ['")?.strip_suffix("']").map(str::to_owned)
}

fn beside(root: &Path, ending: &str) -> PathBuf {
    root.with_extension(ending)
}

/// A folder of `owner`'s with an app of it, and a staged update of `updater`'s.
fn staged(keeper: &Keeper, owner: u32, updater: u32) -> PathBuf {
    let home = keeper.base.path().join(format!("home{}", next()));
    std::fs::create_dir(&home).unwrap();
    let root = home.join("shop");
    put(&root, "old", owner);
    give(&home, owner);
    put(&beside(&root, "update"), "new", updater);
    root
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn uid(name: &str) -> u32 {
    user(name).uid.as_raw()
}

fn privileged() -> Option<Keeper> {
    is_root("apps of several users")
        .then(|| Keeper::start_configured(PoolConfig { trust_clients: true, min_uid: 1, ..PoolConfig::default() }))
}

/// The names in the app's folder, once what was put aside is removed.
fn names(root: &Path) -> Vec<String> {
    let read = || {
        let entries = std::fs::read_dir(root.parent().unwrap()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    wait_for("what was put aside to be removed", || {
        Some(read()).filter(|names| names.iter().all(|name| !name.contains("hatchery-gone")))
    })
}

#[test]
fn an_update_is_taken_tried_and_kept_or_undone() {
    let mut keeper = Keeper::start();
    let root = staged(&keeper, own(), own());
    let app = app_of_core(1);
    for (step, there) in [(SwapStep::Undo, "old"), (SwapStep::Keep, "new")] {
        put(&beside(&root, "update"), "new", own());
        swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
        // While it is tried it stays, whichever name asks.
        assert_eq!(inspected(&mut keeper, app, &root), "new");
        assert_eq!(inspected(&mut keeper, app_of_core(1), &root), "new");
        swap(&mut keeper, app, &root, step).unwrap();
        assert_eq!(inspected(&mut keeper, app, &root), there);
    }
    assert_eq!(names(&root), ["shop", "shop.backup", "shop.failed"]);
    swap(&mut keeper, app, &root, SwapStep::Back).unwrap();
    swap(&mut keeper, app, &root, SwapStep::Keep).unwrap();
    assert_eq!((at(&root).unwrap(), at(&beside(&root, "backup")).unwrap()), ("old".into(), "new".into()));
    assert!(!root.join(MARKER).exists());
}

#[test]
fn a_backup_that_is_a_large_tree_is_replaced_by_the_next() {
    let mut keeper = Keeper::start();
    let root = staged(&keeper, own(), own());
    let backup = beside(&root, "backup");
    for folder in 0..50 {
        let path = backup.join(format!("{folder}")).join("a/b/c/d/e/f/g");
        std::fs::create_dir_all(&path).unwrap();
        (0..20).for_each(|file| std::fs::write(path.join(file.to_string()), "").unwrap());
    }
    std::os::unix::fs::symlink(keeper.base.path(), backup.join("link")).unwrap();
    let app = app_of_core(1);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    swap(&mut keeper, app, &root, SwapStep::Keep).unwrap();
    assert_eq!(at(&backup).unwrap(), "old");
    assert_eq!(names(&root), ["shop", "shop.backup"]);
}

#[test]
fn what_a_core_or_a_spawner_leaves_without_a_verdict_is_undone_at_the_next_inspection() {
    let mut keeper = Keeper::start();
    let root = staged(&keeper, own(), own());
    swap(&mut keeper, app_of_core(1), &root, SwapStep::Take).unwrap();
    assert_eq!(inspected(&mut keeper, app_of_core(2), &root), "old");
    assert_eq!(names(&root), ["shop", "shop.update"]);

    let app = app_of_core(2);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    keeper.spawner.kill().unwrap();
    wait(&mut keeper.spawner);
    let mut next = Keeper::start();
    assert_eq!(inspected(&mut next, app, &root), "old");
    assert_eq!(names(&root), ["shop", "shop.update"]);
    // One that has heard nothing of it carries a verdict out all the same.
    swap(&mut next, app, &root, SwapStep::Take).unwrap();
    let pool = next.pool.clone();
    next.spawner.kill().unwrap();
    wait(&mut next.spawner);
    let mut third = Keeper::start_silent(&[], std::process::Stdio::inherit());
    third.pool = pool;
    third.begin();
    swap(&mut third, app, &root, SwapStep::Keep).unwrap();
    assert_eq!(inspected(&mut third, app, &root), "new");
    assert_eq!(names(&root), ["shop", "shop.backup"]);
}

#[test]
fn a_spawner_killed_at_any_moment_leaves_one_version_whole() {
    let first = Keeper::start();
    let root = staged(&first, own(), own());
    let mut met = std::collections::BTreeSet::new();
    for round in 0..40 {
        let app = app_of_core(1);
        let mut keeper = Keeper::start();
        keeper.send(&ToSpawner::Swap { app, root: bytes(&root), step: SwapStep::Take });
        // Not a time that anything is waited for: moments of a run, from its beginning to beyond its end.
        std::thread::sleep(Duration::from_micros(round * 150));
        keeper.spawner.kill().unwrap();
        wait(&mut keeper.spawner);
        let there = at(&root).unwrap();
        assert!(["old", "new"].contains(&there.as_str()));
        met.insert(there);
        let mut keeper = Keeper::start();
        // Its errand dies with it, but need not have ended: then its lock is waited for.
        assert_eq!(inspected(&mut keeper, app, &root), "old");
        assert_eq!(names(&root), ["shop", "shop.update"]);
        assert_eq!(at(&beside(&root, "update")).as_deref(), Some("new"));
    }
    assert!(met.contains("old"), "{met:?}");
}

#[test]
fn files_are_exchanged_as_the_apps_owner() {
    let Some(mut keeper) = privileged() else { return };
    let daemon = uid("daemon");
    let root = staged(&keeper, daemon, daemon);
    let app = app_of_core(1);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    assert_eq!(root.join(MARKER).metadata().unwrap().uid(), daemon);
    swap(&mut keeper, app, &root, SwapStep::Keep).unwrap();
    assert_eq!(names(&root), ["shop", "shop.backup"]);
}

#[test]
fn an_update_of_somebody_elses_is_refused_and_both_are_named() {
    let Some(mut keeper) = privileged() else { return };
    let root = staged(&keeper, uid("daemon"), uid("nobody"));
    let (update, shop) = (beside(&root, "update").display().to_string(), root.display().to_string());
    let report = refused(&mut keeper, &root, SwapStep::Take);
    assert_eq!(report.problem, format!("{update} belongs to nobody, and {shop} to daemon"));
    assert_eq!(report.remedy, format!("`chown -R daemon {update}`, if its files may be trusted."));
    assert_eq!(names(&root), ["shop", "shop.update"]);
    // Nor does anybody but root update what is root's.
    let root = staged(&keeper, 0, uid("daemon"));
    let report = refused(&mut keeper, &root, SwapStep::Take);
    assert!(report.problem.ends_with(" to root"), "{report:?}");
}

#[test]
fn roots_update_of_a_users_app_is_taken_and_its_files_are_as_they_are() {
    let Some(mut keeper) = privileged() else { return };
    let daemon = uid("daemon");
    let root = staged(&keeper, daemon, 0);
    let app = app_of_core(1);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    // A folder of root's can't hold a marker of that user's.
    let note = beside(&root, "deploying-id");
    assert_eq!((root.metadata().unwrap().uid(), note.metadata().unwrap().uid()), (0, daemon));
    assert!(!root.join(MARKER).exists());
    assert_eq!(inspected(&mut keeper, app, &root), "new");
    swap(&mut keeper, app, &root, SwapStep::Undo).unwrap();
    assert_eq!(names(&root), ["shop", "shop.failed"]);
    assert_eq!(root.metadata().unwrap().uid(), daemon);

    // Undone too where nobody said so.
    put(&beside(&root, "update"), "newer", 0);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    assert_eq!(inspected(&mut keeper, app_of_core(2), &root), "old");
    assert_eq!(names(&root), ["shop", "shop.failed", "shop.update"]);

    let app = app_of_core(2);
    for (step, there) in [(SwapStep::Take, "newer"), (SwapStep::Back, "old"), (SwapStep::Back, "newer")] {
        swap(&mut keeper, app, &root, step).unwrap();
        swap(&mut keeper, app, &root, SwapStep::Keep).unwrap();
        assert_eq!(at(&root).unwrap(), there);
    }
}

#[test]
fn who_may_not_rename_in_the_folder_is_told_which() {
    let Some(mut keeper) = privileged() else { return };
    let root = staged(&keeper, uid("daemon"), uid("daemon"));
    let home = root.parent().unwrap();
    std::os::unix::fs::lchown(home, Some(0), None).unwrap();
    let report = refused(&mut keeper, &root, SwapStep::Take);
    let mode = home.metadata().unwrap().mode() & 0o7777;
    let expected = format!("daemon may not rename what is in {} ({mode:04o}, of root)", home.display());
    assert_eq!(report.problem, expected);
    assert!(report.remedy.contains(&format!("chown daemon {}", home.display())), "{report:?}");
    assert!(!beside(&root, "update").join(MARKER).exists());
    // Nor where root could go and it can't.
    let closed = root.parent().unwrap().parent().unwrap().join(format!("closed{}", next()));
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let inner = closed.join("home");
    std::fs::rename(home, &inner).unwrap();
    give(&inner, uid("daemon"));
    let report = refused(&mut keeper, &inner.join("shop"), SwapStep::Take);
    assert!(report.problem.starts_with("daemon may not rename what is in"), "{report:?}");
}

#[test]
fn root_exchanges_nothing_in_a_folder_that_others_can_write_in() {
    let Some(mut keeper) = privileged() else { return };
    let root = staged(&keeper, 0, 0);
    let home = root.parent().unwrap();
    std::os::unix::fs::lchown(home, Some(uid("daemon")), None).unwrap();
    let report = refused(&mut keeper, &root, SwapStep::Take);
    let (shop, home) = (root.display(), home.display());
    assert_eq!(report.problem, format!("{shop} belongs to root, and {home} is not root's alone"));
    std::os::unix::fs::lchown(root.parent().unwrap(), Some(0), None).unwrap();
    swap(&mut keeper, app_of_core(1), &root, SwapStep::Take).unwrap();
}

#[test]
fn without_privileges_an_update_of_somebody_elses_is_refused_too() {
    let Some(mut keeper) = Keeper::start_as_nobody() else { return };
    let nobody = uid("nobody");
    let root = staged(&keeper, nobody, uid("daemon"));
    let report = refused(&mut keeper, &root, SwapStep::Take);
    assert!(report.problem.contains("belongs to daemon, and "), "{report:?}");
    let update = beside(&root, "update");
    give(&update, nobody);
    std::fs::set_permissions(&update, PermissionsExt::from_mode(0o555)).unwrap();
    let report = refused(&mut keeper, &root, SwapStep::Take);
    assert!(report.problem.starts_with(&format!("putting a marker in {} failed: ", update.display())), "{report:?}");
    assert_eq!(names(&root), ["shop", "shop.update"]);
    std::fs::set_permissions(&update, PermissionsExt::from_mode(0o755)).unwrap();
    let app = app_of_core(1);
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    swap(&mut keeper, app, &root, SwapStep::Keep).unwrap();
    assert_eq!(names(&root), ["shop", "shop.backup"]);
}

#[test]
fn where_versions_cannot_be_exchanged_it_takes_the_operators_word_for_a_gap() {
    let mut keeper = Keeper::start_without_exchange();
    let root = staged(&keeper, own(), own());
    let app = app_of_core(1);
    assert_eq!(inspected(&mut keeper, app, &root), "old");
    let report = refused(&mut keeper, &root, SwapStep::Take);
    let home = root.parent().unwrap().display().to_string();
    assert_eq!(report.problem, format!("the file system of {home} can't exchange two versions at once"));
    assert!(report.remedy.contains("update_gap = true"), "{report:?}");
    assert_eq!(names(&root), ["shop", "shop.update"]);
    assert!(!beside(&root, "update").join(MARKER).exists());

    let options = AppOptions { update_gap: Some(true), ..AppOptions::default() };
    let config = keeper.config.clone();
    keeper.configure(PoolConfig { apps: vec![AppConfig { root: bytes(&root), name: None, options }], ..config });
    for (step, there) in [(SwapStep::Undo, "old"), (SwapStep::Keep, "new")] {
        put(&beside(&root, "update"), "new", own());
        swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
        assert_eq!(at(&root).unwrap(), "new");
        swap(&mut keeper, app, &root, step).unwrap();
        assert_eq!(at(&root).unwrap(), there);
    }
    assert_eq!(names(&root), ["shop", "shop.backup", "shop.failed"]);
}

#[test]
fn what_a_privileged_pool_does_not_serve_is_not_exchanged() {
    if !is_root("what a privileged pool serves") {
        return;
    }
    let mut keeper = Keeper::start_configured(PoolConfig::default());
    let root = staged(&keeper, 0, 0);
    let report = swap(&mut keeper, app_of_core(1), &root, SwapStep::Take).unwrap_err();
    assert!(report.problem.ends_with("neither registered nor under apps_under"), "{report:?}");
    assert_eq!(names(&root), ["shop", "shop.update"]);

    // What was begun before is concluded.
    let app = app_of_core(1);
    let served = vec![bytes(root.parent().unwrap())];
    keeper.configure(PoolConfig { apps_under: served, ..PoolConfig::default() });
    swap(&mut keeper, app, &root, SwapStep::Take).unwrap();
    keeper.configure(PoolConfig::default());
    swap(&mut keeper, app, &root, SwapStep::Undo).unwrap();
    assert_eq!(at(&root).unwrap(), "old");
}
