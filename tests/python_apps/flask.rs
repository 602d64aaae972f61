use super::visitor::{Visitor, adler32, content};
use super::{SYNCHRONOUS, app, recognised, serve, streams};
use crate::support::apps::App;
use crate::support::front::Front;
use crate::support::{runtimes, until_blocking};

fn flask(test: &str) -> Option<App> {
    let venv = runtimes::python(test, &SYNCHRONOUS)?;
    Some(app(&venv, &[("app.py", include_str!("flask_app.py"))]))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn flask_is_served_forms_sessions_uploads_and_streams() {
    let Some(app) = flask("Flask") else { return };
    assert_eq!(recognised(&app), ("wsgi".into(), "app.py:app".into()));
    let front = serve(&app, &["--max", "2"]);
    assert_eq!(front.get("/").ok(), "<h1>Hello from Flask</h1>");

    let mut visitor = Visitor::to(&front);
    assert!(visitor.get("/form").ok().contains("<form"));
    let answer = visitor.submit("/form", &[("name", "Ada & Grace")]);
    assert_eq!((answer.status, answer.header("location")), (303, "/visits"));
    for visits in 1..=3 {
        let seen = json(&visitor.get("/visits").ok());
        assert_eq!(seen, serde_json::json!({ "name": "Ada & Grace", "visits": visits }));
    }
    assert_eq!(json(&Visitor::to(&front).get("/visits").ok())["name"], serde_json::Value::Null, "a session of its own");

    let sent = content(3 << 20);
    let answer = json(&visitor.upload("/upload", &[], "a picture.png", &sent).ok());
    assert_eq!(answer, serde_json::json!({ "name": "a picture.png", "length": 3 << 20, "adler32": adler32(&sent) }));
    streams(&front, &app);

    let about = json(&front.get("/about/caf%C3%A9%20x?q=1&q=%26").ok());
    let url = "http://localhost/about/café%20x?q=1&q=%26";
    assert_eq!(about, serde_json::json!({ "name": "café x", "root": "", "url": url, "q": ["1", "&"] }));
    assert!(front.end().success());
}

#[test]
fn flask_below_a_prefix_knows_where_it_is() {
    let Some(app) = flask("Flask below a prefix") else { return };
    let front = Front::serve(["--app".to_owned(), format!("/shop={}", app.root().display())]);
    let about = json(&front.get("/shop/about/x").ok());
    assert_eq!(about["root"], "/shop");
    assert_eq!(about["url"], "http://localhost/shop/about/x");
    assert_eq!(Visitor::to(&front).submit("/shop/form", &[("name", "x")]).header("location"), "/shop/visits");
    assert!(front.end().success());
}

#[test]
fn an_exception_in_flask_is_in_the_log_and_its_worker_lives() {
    let Some(app) = flask("an exception in Flask") else { return };
    let front = serve(&app, &["--max", "1"]);
    let pid = front.get("/pid").ok();
    let mut browser = front.browser();
    let answer = browser.get("/boom");
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("kettle"), "it is the log's to tell: {answer:?}");
    until_blocking("the traceback is in the log", || {
        let log = front.log();
        (log.contains("RuntimeError: the kettle is empty") && log.contains("in boom")).then_some(())
    });
    assert_eq!(browser.get("/pid").ok(), pid);
    assert!(front.end().success());
}

#[test]
fn who_sends_more_than_flask_reads_gets_its_answer() {
    let Some(app) = flask("bodies that Flask doesn't read") else { return };
    let front = serve(&app, &["--max", "1"]);
    let body = "x".repeat(300_000);
    for _ in 0..20 {
        let answer = front.browser().post("/nowhere", &body);
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    assert!(front.end().success());
}
