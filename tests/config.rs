//! What the operator says in a file, in options and in environment variables; what the command says of a machine.

mod support;

use hatchery_pool_client::PoolConfig;
use hatchery_protocol::codec::decode_payload;
use nix::sys::signal::Signal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::apps::{self, App};
use support::front::{self, Front};
use support::http::Answer;
use support::{processes, until_blocking};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A `pool.toml` in this folder.
fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("pool.toml");
    std::fs::write(&path, text).expect("a test's own file");
    path
}

/// An `[[app]]` with further lines.
fn app(app: &App, lines: &str) -> String {
    format!("[[app]]\nroot = {:?}\n{lines}\n", app.root())
}

/// `hatchery serve` with this file, at a free port.
fn serve(text: &str, with: impl FnOnce(&mut Command)) -> Front {
    let folder = front::folder();
    file(folder.path(), text);
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0", "--config", "pool.toml"]);
    with(&mut command);
    Front::start(command, folder)
}

fn ask(front: &Front, host: &str, path: &str) -> Answer {
    let mut browser = front.browser();
    browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    browser.answer()
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_place_and_nothing_is_started() {
    let folder = front::folder();
    file(folder.path(), "[defaults]\nmin = 1\n  max_ilde = \"5m\"\n[pool]\nmax = \"six\"\n");
    let (status, said) = front::run(front::hatchery(folder.path(), ["serve", "--config", "pool.toml"]));
    assert_eq!(status, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "pool.toml:3:3: unknown key `max_ilde`; did you mean `max_idle`?");
    assert!(lines[1].starts_with("pool.toml:5:7: `max` must be a whole number"), "{said}");
    assert_eq!(lines.len(), 2, "{said}");
    assert!(!folder.path().join("hatchery").exists(), "no pool was there");
    let (status, said) = front::run(front::hatchery(folder.path(), ["serve", "--config", "nothing.toml"]));
    assert!(status == Some(1) && said.starts_with("nothing.toml: can't be read"), "{said}");
}

#[test]
fn a_file_is_judged_without_starting_anything() {
    let folder = front::folder();
    let shop = apps::worker();
    let check = || front::hatchery(folder.path(), ["config", "check", "pool.toml"]).output().expect("hatchery");
    file(folder.path(), &app(&shop, "max_memory = \"512M\""));
    let good = check();
    assert_eq!((good.status.code(), &*good.stdout, &*good.stderr), (Some(0), &b"ok\n"[..], &b""[..]));
    file(folder.path(), &app(&shop, "command = \"python3\"\nmax_memory = \"much\""));
    let bad = check();
    let said = String::from_utf8(bad.stdout).unwrap();
    assert_eq!((bad.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.starts_with("pool.toml:3:1: `command` belongs into the application's hatchery.toml"), "{said}");
    assert!(said.lines().nth(1).unwrap().starts_with("pool.toml:4:14: `max_memory`: `much` is no size"), "{said}");
    let bad = front::hatchery(folder.path(), ["config", "check", "--json", "pool.toml"]).output().expect("hatchery");
    let said: serde_json::Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    let problem = &said["problems"][1];
    assert_eq!(
        (bad.status.code(), &said["ok"], &problem["line"], &problem["column"]),
        (Some(1), &false.into(), &4.into(), &14.into())
    );
}

#[test]
fn applications_of_a_file_are_served_by_host_and_path_each_with_its_settings() {
    let (shop, wiki) = (apps::worker(), apps::worker());
    let text = [
        "[defaults]\nenv = { GREETING = \"hello\", PLACE = \"here\" }\n".to_owned(),
        app(&shop, "host = \"Shop.Example\"\nname = \"the-shop\"\nenv = { PLACE = \"shop\" }"),
        app(&wiki, "path = \"/env\"\nenvironment = \"staging\"\nmin = 2"),
    ];
    let front = serve(&text.concat(), |_| {});
    assert_eq!(ask(&front, "other.example", "/pid").status, 404);
    for (host, path, answer) in [
        ("shop.example", "/env?PLACE", "shop"),
        ("shop.example", "/env?GREETING", "hello"),
        ("shop.example", "/env?HATCHERY_ENV", "production"),
        ("other.example", "/env?PLACE", "here"),
        ("other.example", "/env?HATCHERY_ENV", "staging"),
    ] {
        assert_eq!(ask(&front, host, path).ok(), answer, "{host}{path}");
    }
    // One of the shop, and the two that the wiki has at least.
    front.until("count", 3);
    let status = front.status();
    let names: Vec<&str> = (0..2).filter_map(|app| status["apps"][app]["name"].as_str()).collect();
    assert!(names.contains(&"the-shop"), "{status}");
    assert!(front.end().success());
}

#[test]
fn an_application_wins_over_an_option_an_option_over_a_variable_and_a_variable_over_the_file() {
    let (own, other) = (apps::worker(), apps::worker());
    let text = [
        "[pool]\nmax = 2\nmax_starting = 1\n[defaults]\nenvironment = \"of-the-file\"\n".to_owned(),
        app(&own, "host = \"own\"\nenvironment = \"its-own\""),
        app(&other, ""),
    ];
    let text = text.concat();
    for (variable, option, max, environment) in
        [(false, false, 2, "of-the-file"), (true, false, 3, "of-the-variable"), (true, true, 4, "of-the-option")]
    {
        let front = serve(&text, |command| {
            if variable {
                command.env("HATCHERY_MAX", "3").env("HATCHERY_ENVIRONMENT", "of-the-variable");
                // A switch, and a list.
                command.env("HATCHERY_NO_NEW_PRIVS", "1").env("HATCHERY_REQUIRED", "no_new_privs,nice");
                // Whoever runs this may be nice already, and nobody may become less so.
                command.env("HATCHERY_NICE", "19");
            }
            if option {
                command.args(["--max", "4", "-e", "of-the-option"]);
            }
        });
        assert_eq!(front.status()["max"], max);
        assert_eq!(ask(&front, "any", "/env?HATCHERY_ENV").ok(), environment);
        assert_eq!(ask(&front, "own", "/env?HATCHERY_ENV").ok(), "its-own");
        let process = ask(&front, "any", "/proc").ok();
        assert_eq!(process.lines().any(|line| line == "NoNewPrivs:\t1"), variable, "{process}");
    }
}

#[test]
fn each_subfolder_is_an_application_at_its_own_host() {
    let folder = front::folder();
    let apps = folder.path().join("apps");
    let (shop, blog) = (apps::worker(), apps::worker());
    std::fs::create_dir(&apps).unwrap();
    for (name, app) in [("shop", &shop), ("Blog", &blog)] {
        std::os::unix::fs::symlink(app.root(), apps.join(name)).unwrap();
    }
    std::fs::create_dir(apps.join("not a host")).unwrap();
    std::fs::write(apps.join("file"), "").unwrap();
    let front = Front::start(front::hatchery(folder.path(), ["serve", "-p", "0", "--apps", "apps"]), folder);
    for (host, root) in [("shop.localhost", apps.join("shop")), ("blog.localhost", apps.join("Blog"))] {
        assert_eq!(ask(&front, host, "/env?HATCHERY_ROOT").ok(), root.to_string_lossy());
    }
    assert_eq!(ask(&front, "file.localhost", "/").status, 404);
    assert!(front.log().contains("not a host is not served"), "{}", front.log());
}

#[test]
fn a_file_without_an_application_needs_one_to_be_named() {
    let folder = front::folder();
    file(folder.path(), "[pool]\nmax = 3\n");
    let (status, said) = front::run(front::hatchery(folder.path(), ["serve", "--config", "pool.toml"]));
    assert!(status == Some(1) && said.contains("pool.toml has no [[app]]"), "{said}");
    let app = apps::worker();
    let front = serve("[pool]\nmax = 3\n", |command| {
        command.arg(app.root());
    });
    assert_eq!((front.get("/pid").status, &front.status()["max"]), (200, &3.into()));
}

#[test]
fn who_asks_for_a_disabled_application_is_told_why_and_how_to_try_again() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["-e", "production"]);
    front.get("/pid").ok();
    let root = app.root().to_str().unwrap();
    assert!(front.say(&["disable", root, "back", "at", "<noon>"]).status.success());
    let mut browser = front.browser();
    browser.ask("GET", "/pid", "Accept: text/html\r\n");
    let page = browser.answer();
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("back at &lt;noon&gt;") && page.body.contains("Try again"), "{page:?}");
    assert!(front.say(&["enable", root]).status.success());
    assert_eq!(front.get("/pid").status, 200);
    for arguments in [&["retire", "no\nworker"][..], &["retire", "0"], &["enable", "nobodys"], &["disable", ""]] {
        let output = front.say(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn the_doctor_says_a_line_for_each_thing_and_the_same_in_json() {
    let folder = front::folder();
    let doctor = |arguments: &[&str]| {
        let output = front::hatchery(folder.path(), ["doctor"]).args(arguments).output().expect("hatchery");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = doctor(&[]);
    for name in ["kernel", "privileges", "nobody", "open files", "pidfd", "/proc", "cgroup", "python3", "admin socket"]
    {
        let line = lines.lines().find(|line| line[7..].starts_with(&format!("{name}: ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {lines}"));
        assert!(line.starts_with("ok     ") || (line.starts_with("lacks  ") && line.contains("; ")), "{line}");
    }
    let json: serde_json::Value = serde_json::from_str(&doctor(&["--json"])).unwrap();
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), lines.lines().count());
    for check in checks {
        assert_eq!(check["ok"] == true, check["remedy"].is_null(), "{check}");
    }
}

#[test]
fn a_web_server_that_gave_up_its_rights_ends_when_its_pool_is_gone() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "SKIPPED a_web_server_that_gave_up_its_rights_ends_when_its_pool_is_gone: only root has any to give up"
        );
        return;
    }
    let app = apps::worker();
    let mut front = Front::of(app.root(), &[]);
    let line = front.line();
    assert!(line.starts_with("hatchery: web server and pool run as ") && line.contains("nobody"), "{line}");
    front.get("/pid").ok();
    let (keeper, pool) = (front.keeper(), front.pool());
    processes::kill(keeper, Signal::SIGKILL);
    assert_eq!(front.ended().code(), Some(1));
    assert!(front.log().contains("may not start another"), "{}", front.log());
    until_blocking("nothing of the pool is left", || processes::of_pool(&pool).is_empty().then_some(()));
}

#[test]
fn the_configuration_can_be_told_again_with_the_words_that_a_server_was_started_with() {
    let folder = front::folder();
    let shop = apps::worker();
    file(folder.path(), &format!("[pool]\nmax = 7\n{}", app(&shop, "max_idle = \"7m\"")));
    let told = || {
        let words = ["--admin", "none", "configuration", "--config", "pool.toml", "--min", "2"];
        let mut command = front::hatchery(folder.path(), words);
        command.env("HATCHERY_MAX_LIFETIME", "1d").env("HATCHERY_POOL", "another").output().expect("hatchery")
    };
    let said = told();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let config: PoolConfig = decode_payload(&said.stdout).expect("a configuration");
    assert_eq!((config.max, config.defaults.min, config.defaults.max_lifetime), (7, Some(2), Some(DAY)));
    assert_eq!(config.apps[0].options.max_idle, Some(Duration::from_secs(420)));
    let source = config.source.expect("where it came from");
    let words = source.arguments.join(&b' ');
    assert_eq!(words, b"hatchery --admin none configuration --config pool.toml --min 2");
    let here = folder.path().canonicalize().expect("a folder");
    assert_eq!(source.directory, here.as_os_str().as_bytes());
    assert_eq!(source.files, [here.join("pool.toml").as_os_str().as_bytes()]);
    assert!(source.env.contains(&(b"HATCHERY_MAX_LIFETIME".to_vec(), b"1d".to_vec())), "{:?}", source.env);
    assert!(!source.env.iter().any(|(name, _)| name == b"HATCHERY_POOL"), "that is no setting");

    file(folder.path(), "[pool]\nmaxx = 7\n[defaults]\nmax_idle = true\n");
    let said = told();
    assert!(said.status.code() == Some(1) && said.stdout.is_empty(), "{said:?}");
    let problems = String::from_utf8(said.stderr).expect("text");
    assert!(problems.starts_with("pool.toml:2:1: unknown key `maxx`") && problems.lines().count() == 2, "{problems}");
}
