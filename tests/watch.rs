//! What about an app's files restarts it, through `hatchery serve`: exactly one restart for each reason, none for others.

mod support;

use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};
use support::apps::{self, App, NOBODY};
use support::front::{self, Front};
use support::until_blocking;

/// Longer than it takes to write a few files, on a machine that has other things to do as well.
const QUIET: [&str; 2] = ["--quiet-period", "1s"];
/// An app is looked at at least this often; what is noticed sooner was watched.
const NET: Duration = Duration::from_secs(10);

fn app(front: &Front) -> Value {
    front.status()["apps"][0].clone()
}

fn generation(front: &Front) -> u64 {
    app(front)["generation"].as_u64().expect("a number")
}

/// Waits until a restart is over, and this generation serves.
fn until_generation(front: &Front, wanted: u64) {
    until_blocking("the next generation serves", || {
        let app = app(front);
        (app["generation"].as_u64() >= Some(wanted) && app["restart"].is_null()).then_some(())
    });
    assert_eq!(generation(front), wanted, "{}", front.log());
}

fn touch_restart_txt(root: &Path) {
    let tmp = root.join("tmp");
    std::fs::create_dir_all(&tmp).expect("a test's own folder");
    apps::open_to_all(&tmp);
    std::fs::write(tmp.join("restart.txt"), "").expect("a test's own file");
}

/// Serves the app, and returns once what is done to its files is noticed at once.
fn serve(root: &Path, options: &[&str]) -> Front {
    let folder = front::folder();
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
    command.arg(root).args(options).env("HATCHERY_LOG", "debug");
    let front = Front::start(command, folder);
    front.get("/pid").ok();
    until_blocking("it is watched", || front.log().contains("watched, with ").then_some(()));
    front
}

fn manifest(app: &App, version: &str) {
    let text = std::fs::read_to_string(app.root().join("hatchery.toml")).expect("a manifest");
    let (head, _) = text.split_once("VERSION").unwrap_or((&text, ""));
    app.write("hatchery.toml", &format!("{}\nVERSION = {version:?}\n", head.trim_end()));
}

fn versioned(version: &str) -> App {
    let app = apps::worker();
    manifest(&app, version);
    app
}

fn version(front: &Front) -> String {
    front.get("/env?VERSION").ok()
}

#[test]
fn each_touch_of_restart_txt_is_one_restart_and_the_file_stays() {
    let app = apps::worker();
    let front = serve(app.root(), &["--watch=false"]);
    let first = generation(&front);
    for number in 1..=3 {
        let asked = Instant::now();
        touch_restart_txt(app.root());
        until_generation(&front, first + number);
        assert!(asked.elapsed() < NET, "it was noticed only after {:?}", asked.elapsed());
        assert!(app.root().join("tmp/restart.txt").exists());
    }
    // Files are not watched, and a removed file is no touched one.
    app.write("new.py", "1");
    std::fs::remove_file(app.root().join("tmp/restart.txt")).unwrap();
    touch_restart_txt(app.root());
    until_generation(&front, first + 4);
}

#[test]
fn each_burst_of_changes_is_one_restart() {
    let app = versioned("1");
    let front = serve(app.root(), &QUIET);
    let first = generation(&front);
    for number in 1..=3 {
        for file in 0..20 {
            app.write(&format!("file-{file}.py"), &number.to_string());
        }
        let folder = app.root().join(format!("folder-{number}/deep"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file.py"), "1").unwrap();
        manifest(&app, &(number + 1).to_string());
        until_generation(&front, first + number);
        assert_eq!(version(&front), (number + 1).to_string());
    }
}

#[test]
fn what_is_ignored_restarts_nothing() {
    let app = apps::worker();
    for folder in [".git", "node_modules/x", "log", "data", "tmp"] {
        std::fs::create_dir_all(app.root().join(folder)).unwrap();
    }
    let front = serve(app.root(), &[&QUIET[..], &["--watch-ignore", "data/"]].concat());
    let first = generation(&front);
    let ignored =
        [".git/index", "node_modules/x/i.js", "log/x", "data/x", "a.log", "a.pyc", ".a.py.swp", "a~", "tmp/x"];
    for path in ignored {
        app.write(path, "1");
    }
    // What is noticed next is what is done next. If any of those counted, it would be two restarts: one at once, and one
    // after the quiet period, which is over when the next one is.
    touch_restart_txt(app.root());
    until_generation(&front, first + 1);
    app.write("a.py", "1");
    until_generation(&front, first + 2);
}

#[test]
fn another_link_is_another_version() {
    let versions = ["1", "2"].map(versioned);
    let folder = front::folder();
    let root = folder.path().join("current");
    symlink(versions[0].root(), &root).unwrap();
    let front = serve(&root, &QUIET);
    let first = generation(&front);
    assert_eq!(version(&front), "1");
    for (number, next) in [(1, 1), (2, 0)] {
        let asked = Instant::now();
        symlink(versions[next].root(), folder.path().join("next")).unwrap();
        std::fs::rename(folder.path().join("next"), &root).unwrap();
        until_generation(&front, first + number);
        assert_eq!(version(&front), (next + 1).to_string());
        assert!(asked.elapsed() < NET, "it was noticed only after {:?}", asked.elapsed());
    }
    // The folder it leads to now is watched.
    manifest(&versions[0], "3");
    until_generation(&front, first + 3);
    assert_eq!(version(&front), "3");
}

#[test]
fn a_broken_edit_leaves_the_old_version_serving_and_the_next_edit_heals() {
    let app = versioned("1");
    let front = serve(app.root(), &QUIET);
    let good = std::fs::read_to_string(app.root().join("hatchery.toml")).unwrap();
    let first = generation(&front);
    app.write("hatchery.toml", "command = [\"sh\", \"-c\", \"echo it broke; exit 3\"]\n");
    until_blocking("it has failed", || (self::app(&front)["restart"]["state"] == "failed").then_some(()));
    let shown = self::app(&front);
    assert_eq!((&shown["generation"], &shown["restart"]["generation"]), (&first.into(), &(first + 1).into()));
    assert!(shown["restart"]["report"].as_str().unwrap().contains("it broke"), "{shown}");
    assert_eq!(version(&front), "1");
    let table = String::from_utf8(front.say(&["status"]).stdout).unwrap();
    assert!(table.contains("  restart failed: "), "{table}");
    app.write("hatchery.toml", &good.replace("VERSION = \"1\"", "VERSION = \"2\""));
    until_generation(&front, first + 2);
    assert_eq!(version(&front), "2");
}

/// A copy of a version that lies beside the app, as its owner would make it.
fn stage(version: &App, update: &Path) {
    std::fs::create_dir(update).unwrap();
    apps::open_to_all(update);
    std::fs::copy(version.root().join("hatchery.toml"), update.join("hatchery.toml")).unwrap();
    apps::give(&update.join("hatchery.toml"), NOBODY);
    apps::give(update, NOBODY);
}

#[test]
fn a_staged_update_is_taken_once_it_is_quiet_and_a_broken_one_is_undone() {
    // Whoever owns the app may write beside it.
    let parent = apps::with_manifest("");
    let (root, update) = (parent.root().join("shop"), parent.root().join("shop.update"));
    stage(&versioned("1"), &root);
    let front = serve(&root, &QUIET);
    let first = generation(&front);
    stage(&versioned("2"), &update);
    until_generation(&front, first + 1);
    assert_eq!(version(&front), "2");
    until_blocking("the backup is there", || parent.root().join("shop.backup").exists().then_some(()));
    assert!(!update.exists());

    let broken = apps::with_manifest("command = [\"sh\", \"-c\", \"exit 3\"]\n");
    stage(&broken, &update);
    until_blocking("it is undone, and what is back is watched", || {
        let log = front.log();
        log.rsplit_once("the update is undone").filter(|(_, after)| after.contains("watched, with ")).map(|_| ())
    });
    assert!(parent.root().join("shop.failed").exists());
    assert_eq!(version(&front), "2");
    // An exchange is no change of files: nothing else is restarted for it. The next edit is one.
    let now = generation(&front);
    std::fs::write(root.join("edited.py"), "").unwrap();
    until_blocking("the next generation serves", || (generation(&front) > now).then_some(()));
    let restarts = front.log().matches("restarting: ").count() as u64;
    assert_eq!(restarts, 3, "the two updates and the edit: {}", front.log());
}

#[test]
fn what_the_pools_user_may_not_read_is_said_once_and_found_by_a_look() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED what_the_pools_user_may_not_read: only root has apps of other users");
    }
    let app = apps::worker();
    std::fs::set_permissions(app.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let front = Front::of(app.root(), &[]);
    front.get("/pid").ok();
    let line = "not all of it is watched";
    until_blocking("it is said", || front.log().contains(line).then_some(()));
    touch_restart_txt(app.root());
    apps::give(&app.root().join("tmp"), NOBODY);
    until_generation(&front, 2);
    let log = front.log();
    let said: Vec<&str> = log.lines().filter(|text| text.contains(line)).collect();
    assert!(said.len() == 1 && said[0].contains(app.root().to_str().unwrap()), "{said:?}");
}
