use super::{ASYNCHRONOUS, WITH_HYPERCORN, WITH_UVICORN, app, recognised, serve, streams};
use crate::support::{runtimes, until_blocking};
use std::path::Path;
use std::process::Command;

#[test]
fn fastapi_is_served_by_its_users_uvicorn() {
    let Some(venv) = runtimes::python("FastAPI with uvicorn", &WITH_UVICORN) else { return };
    serves(&venv, "uvicorn");
}

#[test]
fn fastapi_is_served_by_its_users_hypercorn() {
    let Some(venv) = runtimes::python("FastAPI with hypercorn", &WITH_HYPERCORN) else { return };
    serves(&venv, "hypercorn");
}

#[test]
fn fastapi_is_served_without_any_server_installed() {
    let Some(venv) = runtimes::python("FastAPI without uvicorn", &ASYNCHRONOUS) else { return };
    serves(&venv, "none");
}

fn serves(venv: &Path, server: &str) {
    let app = app(venv, &[("main.py", include_str!("fastapi_app.py"))]);
    assert_eq!(recognised(&app), ("asgi".into(), "main.py:app".into()));
    let front = serve(&app, &[]);
    let mut browser = front.browser();
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("JSON") };
    let hello = serde_json::json!({ "hello": "FastAPI", "lifespan": "begun", "server": server });
    assert_eq!(json(&browser.get("/").ok()), hello);
    assert_eq!(json(&browser.get("/articles/7?q=tea%20pot").ok()), serde_json::json!({ "number": 7, "q": "tea pot" }));

    let refused = browser.get("/articles/seven");
    assert_eq!(refused.status, 422);
    assert_eq!(json(&refused.body)["detail"][0]["loc"], serde_json::json!(["path", "number"]));

    let order = "{\"article\": \"pot\", \"count\": 2}";
    browser.ask("POST", "/orders", &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", order.len()));
    browser.send(order);
    let answer = browser.answer();
    assert_eq!((answer.status, json(&answer.body)), (201, json(order)));
    until_blocking("what was left for later is done", || {
        std::fs::read_to_string(app.root().join("noted")).ok().filter(|noted| noted == "pot")
    });
    streams(&front, &app);
    assert!(browser.get("/docs").ok().contains("swagger"));

    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_apps/websocket_client.py");
    for _ in 0..2 {
        let talked = Command::new(venv.join("bin/python")).arg(&client).arg(front.address()).output().expect("python");
        assert!(talked.status.success(), "{}", String::from_utf8_lossy(&talked.stderr));
    }

    assert_eq!(browser.get("/boom").status, 500);
    until_blocking("the traceback is in the log", || {
        front.log().contains("RuntimeError: the kettle is empty").then_some(())
    });
    assert_eq!(json(&front.get("/").ok()), hello, "and it goes on");
    assert!(front.end().success());
    assert_eq!(std::fs::read_to_string(app.root().join("ended")).expect("its lifespan ended"), "begun");
}
