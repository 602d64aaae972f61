//! Frameworks of Python as their registry has them, through `hatchery serve`.

mod support;

#[path = "python_apps/django.rs"]
mod django;
#[path = "python_apps/examples.rs"]
mod examples;
#[path = "python_apps/fastapi.rs"]
mod fastapi;
#[path = "python_apps/flask.rs"]
mod flask;
#[path = "python_apps/visitor.rs"]
mod visitor;

use std::path::Path;
use support::apps::{self, App};
use support::front::Front;
use support::runtimes;

/// Without a server for ASGI.
const SYNCHRONOUS: [&str; 2] = ["django~=5.2", "flask~=3.1"];
const ASYNCHRONOUS: [&str; 2] = ["fastapi>=0.115,<1", "websockets~=15.0"];
const WITH_UVICORN: [&str; 3] = ["fastapi>=0.115,<1", "websockets~=15.0", "uvicorn[standard]<1"];
const WITH_HYPERCORN: [&str; 3] = ["fastapi>=0.115,<1", "websockets~=15.0", "hypercorn<1"];

/// An app of these files alone, with a virtual environment.
fn app(venv: &Path, files: &[(&str, &str)]) -> App {
    let app = apps::with_manifest("");
    std::fs::remove_file(app.root().join("hatchery.toml")).expect("a test's own file");
    for (name, text) in files {
        app.write(name, text);
    }
    std::os::unix::fs::symlink(venv, app.root().join(".venv")).expect("a link");
    app
}

/// Serves it. What it writes restarts nothing.
fn serve(app: &App, options: &[&str]) -> Front {
    Front::of(app.root(), &[&["--watch=false"][..], options].concat())
}

/// What it was recognised as.
fn recognised(app: &App) -> (String, String) {
    let output = std::process::Command::new(support::HATCHERY).args(["detect", "--json"]).arg(app.root()).output();
    let output = output.expect("hatchery");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let word = |name: &str| found[name].as_str().unwrap_or_else(|| panic!("{found}")).to_owned();
    (word("type"), word("entry"))
}

/// What comes in two pieces is not held back until it is whole: the second waits for a file.
fn streams(front: &Front, app: &App) {
    let mut browser = front.browser();
    browser.ask("GET", "/stream/go", "");
    let head = browser.answer_head();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, "chunked"), "{head:?}");
    assert_eq!(browser.chunk().as_deref(), Some("first\n"));
    app.write("go", "");
    assert_eq!(browser.chunk().as_deref(), Some("second\n"));
    assert_eq!(browser.chunk(), None);
    assert_eq!(browser.get("/stream/go").ok(), "first\nsecond\n", "and the connection is kept");
}

#[test]
fn the_gateway_is_as_its_validator_wants_it() {
    let Some(python) = runtimes::plain_python("wsgiref.validate") else { return };
    let app = apps::with_manifest(&format!(
        "type = \"wsgi\"\nentry = \"checked.py\"\ninterpreter = {:?}\n",
        python.to_str().expect("a path of text")
    ));
    app.write("checked.py", include_str!("python_apps/checked.py"));
    let front = serve(&app, &[]);
    let mut browser = front.browser();
    assert_eq!(browser.get("/a%20b/c?x=1").ok(), "GET /a b/c x=1 ");
    assert_eq!(browser.post("/p", "a body").ok(), "POST /p  a body");
    browser.ask("POST", "/chunked", "Transfer-Encoding: chunked\r\n");
    browser.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(browser.answer().ok(), "POST /chunked  abcde");
    assert_eq!(browser.head("/h").status, 200);
    assert_eq!(browser.get("/lines").ok(), "GET /lines  ");
    assert!(!front.log().contains("AssertionError"), "{}", front.log());
    assert!(front.end().success());
}
