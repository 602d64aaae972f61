//! `hatchery deploy` and its like, said to a live pool: what they return, what they print, and what is served then.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::apps::{self, App, NOBODY};
use support::front::{self, Front};
use support::{HATCHERY, until_blocking};

/// An app, `shop`, in a folder that its owner may write, and what becomes of its versions beside it.
struct Shop {
    app: App,
}

impl Shop {
    /// Its version is a file of it, which it answers at `/version`; `broken` does not start.
    fn new(env: &[(&str, &str)]) -> Self {
        let shop = Self { app: apps::worker_with("", env) };
        std::fs::create_dir(shop.at("shop")).unwrap();
        std::fs::rename(shop.at("hatchery.toml"), shop.at("shop/hatchery.toml")).unwrap();
        shop.write("shop/version", "1");
        shop.hand_over("shop");
        shop
    }

    fn at(&self, path: &str) -> PathBuf {
        self.app.root().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.at(path), text).unwrap();
    }

    /// To whom the app belongs.
    fn hand_over(&self, folder: &str) {
        apps::open_to_all(&self.at(folder));
        for entry in std::fs::read_dir(self.at(folder)).unwrap() {
            apps::give(&entry.unwrap().path(), NOBODY);
        }
        apps::give(&self.at(folder), NOBODY);
    }

    /// A folder elsewhere that is this version.
    fn version(&self, version: &str) -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("version-").tempdir().unwrap();
        apps::open_to_all(folder.path());
        std::fs::copy(self.at("shop/hatchery.toml"), folder.path().join("hatchery.toml")).unwrap();
        std::fs::write(folder.path().join("version"), version).unwrap();
        folder
    }

    fn serve(&self, options: &[&str]) -> Front {
        let fixed = ["--max", "3", "-e", "production"];
        let front = Front::of(&self.at("shop"), &[&fixed[..], options].concat());
        assert_eq!(front.get("/version").ok().trim(), "1");
        front
    }

    fn beside(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.app.root()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn has(&self, path: &str, version: &str) {
        assert_eq!(std::fs::read_to_string(self.at(path)).unwrap_or_default().trim(), version, "{path}");
    }
}

fn deploy(front: &Front, app: &str, version: &Path) -> Output {
    front.say(&["deploy", app, version.to_str().unwrap()])
}

/// Exit status 0, and nothing to say.
fn done(said: &Output) {
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
}

/// Exit status 1; what standard error says.
fn refused(said: &Output) -> String {
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    String::from_utf8(said.stderr.clone()).unwrap()
}

fn version(front: &Front) -> String {
    front.get("/version").ok().trim().to_owned()
}

fn app(front: &Front) -> Value {
    front.status()["apps"][0].clone()
}

#[test]
fn a_version_that_starts_takes_over_and_the_one_before_is_a_step_back_away() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&[]);
    let (two, before) = (shop.version("2"), app(&front)["generation"].as_u64().unwrap());
    done(&deploy(&front, "shop", two.path()));
    assert_eq!(version(&front), "2");
    assert_eq!(shop.beside(), ["shop", "shop.backup"]);
    shop.has("shop.backup/version", "1");
    assert_eq!(app(&front)["generation"], before + 1);
    assert!(two.path().join("version").exists(), "what was deployed is copied");
    let owner = |path: &str| shop.at(path).symlink_metadata().unwrap().uid();
    assert_eq!(owner("shop/version"), owner("shop.backup/version"));

    done(&front.say(&["rollback", "shop"]));
    assert_eq!(version(&front), "1");
    shop.has("shop.backup/version", "2");
    // There and back.
    done(&front.say(&["rollback", "shop"]));
    assert_eq!(version(&front), "2");

    // An older backup goes.
    done(&deploy(&front, shop.at("shop").to_str().unwrap(), shop.version("3").path()));
    assert_eq!(version(&front), "3");
    shop.has("shop.backup/version", "2");
    until_blocking("nothing else is left", || (shop.beside() == ["shop", "shop.backup"]).then_some(()));
}

#[test]
fn a_version_that_does_not_start_is_told_with_its_report_while_the_old_one_serves() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&[]);
    let why = refused(&deploy(&front, "shop", shop.version("broken").path()));
    assert!(why.starts_with("hatchery: ") && why.contains("this version is broken"), "{why}");
    assert_eq!(version(&front), "1");
    shop.has("shop/version", "1");
    shop.has("shop.failed/version", "broken");
    assert_eq!(shop.beside(), ["shop", "shop.failed"]);

    let said = front.say(&["deploy", "--json", "shop", shop.version("broken").path().to_str().unwrap()]);
    refused(&said);
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    assert!(answer["report"]["output"].as_str().unwrap().contains("this version is broken"), "{answer}");

    // The next one is a matter of its own.
    done(&deploy(&front, "shop", shop.version("2").path()));
    assert_eq!(version(&front), "2");
}

#[test]
fn a_version_is_deployed_where_updates_are_not_taken_by_themselves() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&["--staged-update=false"]);
    done(&deploy(&front, "shop", shop.version("2").path()));
    assert_eq!(version(&front), "2");
}

#[test]
fn what_is_refused_leaves_nothing_beside_the_app() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&[]);
    let two = shop.version("2");
    for (app, folder, sentence) in [
        ("nothing", two.path(), "no application 'nothing'"),
        ("shop", Path::new("/nowhere"), "/nowhere can't be read"),
        ("shop", &shop.at("shop"), "is the application itself"),
        ("shop", Path::new("/"), "contains the application"),
        ("shop", &shop.at("shop/version"), "is not a folder"),
    ] {
        let why = refused(&deploy(&front, app, folder));
        assert!(why.contains(sentence) && why.lines().count() == 1, "{why}");
    }
    let why = refused(&front.say(&["rollback", "shop"]));
    assert!(why.contains("shop.backup"), "{why}");
    // Refused by the pool, once it was staged.
    done(&front.say(&["stop", "shop"]));
    refused(&deploy(&front, "shop", two.path()));
    assert_eq!(shop.beside(), ["shop"]);
    shop.has("shop/version", "1");
}

#[test]
fn an_app_behind_a_link_is_not_deployed_so() {
    let shop = Shop::new(&[]);
    std::fs::rename(shop.at("shop"), shop.at("first")).unwrap();
    symlink("first", shop.at("shop")).unwrap();
    let front = shop.serve(&[]);
    let why = refused(&deploy(&front, "shop", shop.version("2").path()));
    assert!(why.contains("is a symbolic link: deploy it by putting a link"), "{why}");
    assert_eq!(shop.beside(), ["first", "shop"]);
}

#[test]
fn what_a_killed_deploy_leaves_is_no_version_and_the_next_one_removes_it() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&["--quiet-period", "300ms"]);
    let large = shop.version("2");
    std::fs::write(large.path().join("large"), vec![1; 1 << 20]).unwrap();
    // The kernel kills it (SIGXFSZ) in the middle of that file.
    let limited = "ulimit -f 100; exec \"$0\" deploy shop \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, HATCHERY]).arg(large.path()).env("HATCHERY_ADMIN", front.admin());
    let killed = command.output().unwrap();
    assert_eq!(killed.status.signal(), Some(Signal::SIGXFSZ as i32), "{killed:?}");
    assert_eq!(shop.beside(), [".shop.hatchery-staging", "shop"]);
    drop(large);
    done(&deploy(&front, "shop", shop.version("2").path()));
    assert_eq!(version(&front), "2");
    assert_eq!(shop.beside(), ["shop", "shop.backup"]);
}

#[test]
fn a_single_executable_is_deployed_as_a_folder_is() {
    let shop = Shop::new(&[]);
    let manifest = std::fs::read_to_string(shop.at("shop/hatchery.toml")).unwrap();
    let exe = manifest.split('"').nth(1).unwrap().to_owned();
    std::fs::remove_dir_all(shop.at("shop")).unwrap();
    let script = |version: &str| {
        format!(
            "#!/bin/sh\n[ {version} = broken ] && echo it is broken && exit 1\n\
             TEST_WORKER={version} exec {exe} --exact support::worker::worker --ignored --nocapture\n"
        )
    };
    // Another process writes it: one that is open for writing somewhere can't be executed.
    let write = |path: &Path, version: &str| {
        let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script(version)).status();
        assert!(status.unwrap().success());
    };
    write(&shop.at("shop"), "1");
    apps::give(&shop.at("shop"), NOBODY);
    let front = Front::of(&shop.at("shop"), &["-e", "production"]);
    let served = || front.get("/env?TEST_WORKER").ok();
    assert_eq!(served(), "1");
    let built = tempfile::tempdir().unwrap();
    apps::open_to_all(built.path());
    let deploy_version = |number: &str| {
        write(&built.path().join("new"), number);
        deploy(&front, "shop", &built.path().join("new"))
    };
    done(&deploy_version("2"));
    assert_eq!(served(), "2");
    assert_eq!(shop.beside(), ["shop", "shop.backup"]);
    assert_eq!(shop.at("shop").metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert!(refused(&deploy_version("broken")).contains("it is broken"));
    assert_eq!(served(), "2");
    assert_eq!(shop.beside(), ["shop", "shop.backup", "shop.failed"]);
    done(&front.say(&["rollback", "shop"]));
    assert_eq!(served(), "1");
    assert!(refused(&deploy(&front, "shop", built.path())).contains("is not a file"));
}

#[test]
fn restart_returns_when_the_new_generation_serves_or_failed() {
    let shop = Shop::new(&[]);
    let front = shop.serve(&["--watch=false"]);
    let generation = || app(&front)["generation"].as_u64().unwrap();
    let (pid, before) = (front.get("/pid").ok(), generation());
    done(&front.say(&["restart", "shop"]));
    assert_eq!(generation(), before + 1);
    assert_ne!(front.get("/pid").ok(), pid);
    let said = front.say(&["restart", "shop", "--kill", "--json"]);
    done(&said);
    assert_eq!(serde_json::from_slice::<Value>(&said.stdout).unwrap()["ok"], true);
    assert_eq!(generation(), before + 2);

    shop.write("shop/version", "broken");
    let why = refused(&front.say(&["restart", "shop"]));
    assert!(why.contains("this version is broken"), "{why}");
    assert_eq!(version(&front), "1");
    assert!(refused(&front.say(&["restart", "nothing"])).contains("no application 'nothing'"));
    assert!(refused(&front.say(&["restart", "--no-wait", "nothing"])).contains("no application 'nothing'"));
    assert_eq!(front.say(&["restart"]).status.code(), Some(2));
}

#[test]
fn restart_without_waiting_returns_while_the_new_generation_starts() {
    let shop = Shop::new(&[("TEST_GATE", "1")]);
    let starting = |front: &Front, generation: u64| {
        let workers = app(front)["workers"].as_array().unwrap().clone();
        let new =
            workers.into_iter().find(|worker| worker["generation"] == generation && worker["state"] == "starting");
        new.and_then(|worker| worker["pid"].as_i64()).filter(|pid| *pid > 0)
    };
    let front = Front::of(&shop.at("shop"), &["--max", "3", "-e", "production"]);
    let mut browser = front.browser();
    browser.ask("GET", "/version", "");
    let first = until_blocking("a worker starts", || {
        let workers = app(&front)["workers"].as_array()?.clone();
        workers.first()?["pid"].as_i64().filter(|pid| *pid > 0)
    });
    shop.write(&format!("shop/ready-{first}"), "");
    assert_eq!(browser.answer().ok().trim(), "1");
    let before = app(&front)["generation"].as_u64().unwrap();

    let said = front.say(&["restart", "shop", "--no-wait", "--json"]);
    done(&said);
    assert_eq!(serde_json::from_slice::<Value>(&said.stdout).unwrap()["ok"], true);
    let restart = app(&front)["restart"].clone();
    assert_eq!((&restart["state"], &restart["generation"]), (&"rolling".into(), &(before + 1).into()));
    assert_eq!(version(&front), "1", "the old one serves");
    // Once more: what serves last is what was asked for last.
    done(&front.say(&["restart", "shop", "--no-wait"]));
    let pid = until_blocking("its worker starts", || starting(&front, before + 2));
    shop.write(&format!("shop/ready-{pid}"), "");
    until_blocking("it serves", || (app(&front)["generation"] == before + 2).then_some(()));

    // One that waits is answered when its generation, or a newer one, serves.
    let mut command = front::hatchery(front.path(), ["restart", "shop"]);
    let mut waiting = command.spawn().unwrap();
    let pid = until_blocking("its worker starts", || starting(&front, before + 3));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    shop.write(&format!("shop/ready-{pid}"), "");
    assert!(until_blocking("it returns", || waiting.try_wait().unwrap()).success());
}

#[test]
fn an_app_is_stopped_started_removed_and_added_while_others_are_served() {
    let shop = Shop::new(&[]);
    // As root it takes only roots that its configuration speaks of.
    let front = shop.serve(&["--apps-under", shop.app.root().to_str().unwrap()]);
    done(&front.say(&["stop", "shop"]));
    assert_eq!(app(&front)["state"], "stopped");
    assert_eq!(front.get("/version").status, 503);
    until_blocking("its workers leave", || (front.status()["count"] == 0).then_some(()));
    done(&front.say(&["start", "shop"]));
    assert_eq!(version(&front), "1");

    done(&front.say(&["remove", "shop"]));
    until_blocking("it is forgotten", || front.status()["apps"].as_array()?.is_empty().then_some(()));
    let root = shop.at("shop");
    let said = front.say(&["add", "--json", root.to_str().unwrap(), "max_idle=1m", "max_queue=10"]);
    done(&said);
    assert_eq!(serde_json::from_slice::<Value>(&said.stdout).unwrap()["ok"], true);
    assert_eq!(version(&front), "1");
    let listed = String::from_utf8(front.say(&["list"]).stdout).unwrap();
    assert!(listed.contains(root.to_str().unwrap()), "{listed}");
    assert_eq!(front.say(&["add", "/srv/shop", "max_ilde=10m"]).status.code(), Some(2));
    let why = refused(&front.say(&["end", "4711"]));
    assert!(why.contains("no session '4711' is open"), "{why}");
}

#[test]
fn clear_replaces_the_workers_and_reload_reads_the_file_again() {
    let shop = Shop::new(&[]);
    let folder = front::folder();
    let file = folder.path().join("pool.toml");
    let write = |idle: &str| {
        let text = format!("[defaults]\nmax_idle = \"{idle}\"\n[[app]]\nroot = {:?}\n", shop.at("shop"));
        std::fs::write(&file, text).unwrap();
    };
    write("1h");
    let command = front::hatchery(folder.path(), ["serve", "-p", "0", "--config", "pool.toml"]);
    let front = Front::start(command, folder);
    let pid = front.get("/pid").ok();
    done(&front.say(&["clear"]));
    assert_ne!(front.get("/pid").ok(), pid);

    write("soon");
    let why = refused(&front.say(&["reload"]));
    assert!(why.contains("max_idle"), "{why}");
    assert_eq!(front.status()["count"], 1);
    write("100ms");
    done(&front.say(&["reload"]));
    until_blocking("the worker leaves", || (front.status()["count"] == 0).then_some(()));
}
