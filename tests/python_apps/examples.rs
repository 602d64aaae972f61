//! The examples in Python start and answer as they are.

use super::{ASYNCHRONOUS, SYNCHRONOUS};
use crate::support::folders::{self, Folder};
use crate::support::front::greets;
use crate::support::runtimes;
use std::path::Path;

fn example(name: &str) -> Folder {
    folders::copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/apps").join(name))
}

/// The same in a virtual environment.
fn greets_with(name: &str, packages: &[&str], greeting: &str) {
    let Some(venv) = runtimes::python(&format!("the example {name}"), packages) else { return };
    let app = example(name);
    std::os::unix::fs::symlink(venv, app.root().join(".venv")).expect("a link");
    greets(&app, greeting);
}

#[test]
fn flask_greets() {
    greets_with("flask", &SYNCHRONOUS, "Flask");
}

#[test]
fn django_greets() {
    greets_with("django", &SYNCHRONOUS, "Django");
}

#[test]
fn fastapi_greets() {
    greets_with("fastapi", &ASYNCHRONOUS, "FastAPI");
}

#[test]
fn wsgi_greets() {
    if runtimes::plain_python("the example wsgi").is_some() {
        greets(&example("wsgi"), "WSGI");
    }
}

#[test]
fn asgi_greets() {
    if runtimes::plain_python("the example asgi").is_some() {
        greets(&example("asgi"), "ASGI");
    }
}
