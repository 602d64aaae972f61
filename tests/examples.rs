//! Every example starts, serves a request, and ends on TERM leaving nothing.

mod support;

use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use support::front::{self, Front};
use support::{HATCHERY, apps, has, processes, until_blocking};

/// An example's executable. `cargo test` builds them all, but `cargo test --test examples` builds none.
fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let profile = Path::new(HATCHERY).parent().expect("a folder of executables");
        let (name, target) = (profile.file_name().expect("a profile"), profile.parent().expect("a target folder"));
        let name = if name == "debug" { "dev".as_ref() } else { name };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--profile").arg(name).arg("--target-dir").arg(target);
        assert!(build.status().expect("cargo").success(), "the examples can't be built");
        profile.join("examples")
    });
    folder.join(name)
}

/// An example of a front end, with the pool-server under test.
fn start(name: &str, arguments: &[&str]) -> Front {
    let folder = front::folder();
    let mut command = Command::new(example(name));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", folder.path()).env("HATCHERY_POOL_SERVER", HATCHERY);
    Front::start(command, folder)
}

/// An app that needs no second worker, even if a browser is faster than the end of its last session.
fn threads() -> apps::App {
    apps::worker_with("concurrency = 0", &[("TEST_THREADS", "1")])
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn embed_hyper_serves_and_passes_bodies_on() {
    let app = threads();
    let front = start("embed-hyper", &[shown(app.root()), "127.0.0.1:0"]);
    let pid = front.get("/pid").ok();
    assert_ne!(pid, front.pid().to_string());
    let mut browser = front.browser();
    let body = "x".repeat(200_000);
    assert!(browser.post("/echo", &body).ok() == body);
    assert_eq!(browser.get("/pid").ok(), pid);
    assert_eq!(browser.head("/pid").status, 200);
    assert_eq!(browser.get("/pid").ok(), pid);
    assert!(front.end().success());
}

#[test]
fn embed_hyper_streams_and_answers_what_the_pool_refuses() {
    let front = start("embed-hyper", &["/nowhere/at/all", "127.0.0.1:0"]);
    let answer = front.get("/");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("could not be started"), "{answer:?}");
    assert!(front.end().success());

    let app = apps::with_manifest(&format!("command = [{HATCHERY:?}, \"demo-app\"]\n"));
    let front = start("embed-hyper", &[shown(app.root()), "127.0.0.1:0"]);
    let mut browser = front.browser();
    browser.ask("POST", "/echo", "Transfer-Encoding: chunked\r\n");
    browser.send("6\r\nfirst \r\n");
    assert_eq!(browser.answer_head().header("transfer-encoding"), "chunked");
    until_chunk(&mut browser, "first ");
    browser.send("6\r\nsecond\r\n0\r\n\r\n");
    until_chunk(&mut browser, "second");
    assert_eq!(browser.chunk(), None);
    assert!(front.end().success());
}

fn until_chunk(browser: &mut support::http::Browser, wanted: &str) {
    while !browser.chunk().unwrap_or_else(|| panic!("an end before {wanted}")).ends_with(wanted) {}
}

#[test]
fn prefork_serves_with_four_processes_of_its_own() {
    let app = threads();
    let mut front = start("prefork", &[shown(app.root()), "127.0.0.1:0"]);
    let children = processes::children(front.pid());
    assert_eq!(children.len(), 4, "{children:?}");
    let pid = front.get("/pid").ok();
    for _ in 0..20 {
        assert_eq!(front.get("/pid").ok(), pid, "they share the pool and its worker");
    }
    let body = "x".repeat(200_000);
    assert!(front.browser().post("/echo", &body).ok() == body);
    let pool = front.pool();
    front.signal(Signal::SIGTERM);
    assert!(front.ended().success());
    front.nothing_is_left(&pool);
    assert!(children.into_iter().all(|child| !processes::lives(child)));
}

#[test]
fn prefork_leaves_nothing_when_it_is_killed() {
    let app = apps::worker();
    let mut front = start("prefork", &[shown(app.root()), "127.0.0.1:0"]);
    let children = processes::children(front.pid());
    front.get("/pid").ok();
    let pool = front.pool();
    front.signal(Signal::SIGKILL);
    front.ended();
    front.nothing_is_left(&pool);
    until_blocking("no child is left", || children.iter().all(|child| !processes::lives(*child)).then_some(()));
}

#[test]
fn stats_shows_a_pool_at_work() {
    let mut front = start("stats", &[]);
    let pool = front.pool();
    let line = until_blocking("its load is served", || {
        let line = front.line();
        (!line.ends_with("served 0")).then_some(line)
    });
    let figure = |name: &str| {
        let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("no {name} in {line:?}"));
        rest.trim().split(',').next().and_then(|figure| figure.parse::<u64>().ok()).expect("a figure")
    };
    assert!(figure("count") >= 1 && figure("active") <= figure("count"), "{line}");
    front.signal(Signal::SIGTERM);
    assert!(front.ended().success(), "{}", front.log());
    front.nothing_is_left(&pool);
}

/// Serves an app of `examples/apps` with the command, as its first lines say.
fn app(name: &str) -> Front {
    Front::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/apps").join(name), &[])
}

fn greets(front: Front, greeting: &str) {
    let mut browser = front.browser();
    for path in ["/", "/a?b=c"] {
        let answer = browser.get(path).ok();
        assert!(answer.starts_with(greeting), "{answer}");
        assert!(answer.trim_end().ends_with(&format!(", at {path}")), "{answer}");
    }
    assert_eq!(browser.head("/").status, 200);
    assert!(browser.get("/").ok().starts_with(greeting));
    assert_eq!(front.status()["count"], 1);
    assert!(front.end().success());
}

#[test]
fn the_rust_app_serves() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/apps/rust");
    let manifest = std::fs::read_to_string(folder.join("hatchery.toml")).unwrap();
    // Where cargo builds to, unless it is told another place, as it may be here.
    let usual = "../../../target/debug/examples/app-rust";
    assert!(manifest.contains(usual), "{manifest}");
    let app = apps::with_manifest(&manifest.replace(usual, shown(&example("app-rust"))));
    greets(Front::of(app.root(), &[]), "Hello from Rust, process ");
}

#[test]
fn the_python_app_serves() {
    if has("python3", "the Python app") {
        greets(app("python"), "Hello from Python, process ");
    }
}

#[test]
fn the_node_app_serves() {
    if has("node", "the Node app") {
        greets(app("node"), "Hello from Node, process ");
    }
}

#[test]
fn the_shell_app_serves() {
    if has("python3", "the shell script that starts a Python server") {
        let front = app("shell");
        assert!(front.get("/").ok().contains("Hello from a file"));
        assert_eq!(front.get("/nothing").status, 404);
        assert_eq!(front.status()["count"], 1);
        assert!(front.end().success());
    }
}
