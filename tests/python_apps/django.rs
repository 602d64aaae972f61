use super::visitor::{Visitor, adler32, content};
use super::{SYNCHRONOUS, recognised, serve, streams};
use crate::support::apps::{self, App};
use crate::support::runtimes;
use std::path::Path;
use std::process::Command;

/// What `django-admin startproject` makes, with a database, a superuser, and addresses of its own.
pub(crate) fn project(venv: &Path) -> App {
    let app = apps::with_manifest("");
    let root = app.root();
    std::fs::remove_file(root.join("hatchery.toml")).expect("a test's own file");
    std::os::unix::fs::symlink(venv, root.join(".venv")).expect("a link");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(venv.join("bin").join(program))
            .args(arguments)
            .current_dir(root)
            .env("DJANGO_SUPERUSER_PASSWORD", "correct horse")
            .output()
            .expect("python");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("django-admin", &["startproject", "shop", "."]);
    run("python", &["manage.py", "migrate", "--verbosity=0"]);
    run("python", &["manage.py", "createsuperuser", "--noinput", "--username=ada", "--email=ada@localhost"]);
    std::fs::write(root.join("shop/urls.py"), include_str!("django_urls.py")).expect("a test's own file");
    if nix::unistd::geteuid().is_root() {
        let owner = format!("{0}:{0}", apps::NOBODY);
        assert!(Command::new("chown").args(["-R", &owner]).arg(root).status().expect("chown").success());
    }
    app
}

#[test]
fn django_is_served_as_startproject_made_it() {
    let Some(venv) = runtimes::python("Django", &SYNCHRONOUS) else { return };
    let app = project(&venv);
    assert_eq!(recognised(&app), ("wsgi".into(), "shop.wsgi:application".into()));
    serves(&app, "WSGIRequest");
}

#[test]
fn django_is_served_by_its_asgi_entry() {
    let Some(venv) = runtimes::python("Django by ASGI", &SYNCHRONOUS) else { return };
    let app = project(&venv);
    app.write("hatchery.toml", "type = \"asgi\"\nentry = \"shop.asgi:application\"\n");
    serves(&app, "ASGIRequest");
}

fn serves(app: &App, class: &str) {
    let front = serve(app, &[]);
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("JSON") };
    let about = json(&front.get("/about/x%20y?z=1").ok());
    assert_eq!(about["class"], class);
    assert_eq!(about["uri"], "http://localhost/about/x%20y?z=1");

    let mut visitor = Visitor::to(&front);
    let turned_away = visitor.get("/admin/");
    assert_eq!((turned_away.status, turned_away.header("location")), (302, "/admin/login/?next=/admin/"));
    log_in(&mut visitor);
    make_a_group(&mut visitor);
    let styles = visitor.get("/static/admin/css/base.css");
    assert!(styles.header("content-type").starts_with("text/css"), "{styles:?}");
    assert!(styles.ok().contains("body"));

    let sent = content(3 << 20);
    let refused = visitor.upload("/upload/", &[], "a.bin", &sent);
    assert_eq!(refused.status, 403, "without its CSRF token");
    let token = visitor.get("/upload/").ok();
    let fields = [("csrfmiddlewaretoken", token.as_str())];
    let answer = json(&visitor.upload("/upload/", &fields, "a.bin", &sent).ok());
    let kind = "TemporaryUploadedFile";
    assert_eq!(
        answer,
        serde_json::json!({ "name": "a.bin", "length": 3 << 20, "adler32": adler32(&sent), "kind": kind })
    );
    streams(&front, app);
    assert_eq!(front.get("/nowhere").status, 404);
    assert!(!front.log().contains("Traceback"), "{}", front.log());
    assert!(front.end().success());
}

/// Logs in.
fn log_in(visitor: &mut Visitor) {
    let login = "/admin/login/?next=/admin/";
    let token = token(&visitor.get(login).ok());
    let fields = |password| [("csrfmiddlewaretoken", token.as_str()), ("username", "ada"), ("password", password)];
    assert!(visitor.submit(login, &fields("wrong")).ok().contains("Please enter the correct username"));
    let answer = visitor.submit(login, &fields("correct horse"));
    assert_eq!((answer.status, answer.header("location")), (302, "/admin/"));
    assert!(!visitor.cookie("sessionid").is_empty());
    assert!(visitor.get("/admin/").ok().contains("Site administration"));
}

/// Makes something, and sees it.
fn make_a_group(visitor: &mut Visitor) {
    let add = "/admin/auth/group/add/";
    let token = token(&visitor.get(add).ok());
    let answer = visitor.submit(add, &[("csrfmiddlewaretoken", &token), ("name", "Gärtner & Köche")]);
    assert_eq!((answer.status, answer.header("location")), (302, "/admin/auth/group/"));
    assert!(visitor.get("/admin/auth/group/").ok().contains("Gärtner &amp; Köche"));
}

/// That of the form in this page.
fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrfmiddlewaretoken\" value=\"").expect("a form with a token");
    rest.split('"').next().expect("a value").to_owned()
}

#[test]
fn django_is_loaded_once_for_all_its_workers() {
    let Some(venv) = runtimes::python("Django, preloaded", &SYNCHRONOUS) else { return };
    let app = project(&venv);
    let front = serve(&app, &["--max", "3"]);
    // Each holds the worker it got, which leaves others to be forked.
    let mut held: Vec<_> = (0..3).map(|_| front.browser()).collect();
    for browser in &mut held {
        browser.ask("GET", "/stream/go", "");
        assert_eq!(browser.answer_head().status, 200);
        assert_eq!(browser.chunk().as_deref(), Some("first\n"));
    }
    let status = front.status();
    let (workers, preloaders) = (&status["apps"][0]["workers"], &status["apps"][0]["preloaders"]);
    assert_eq!(workers.as_array().map(Vec::len), Some(3), "{status}");
    assert_eq!((preloaders.as_array().map(Vec::len), &preloaders[0]["forks"]), (Some(1), &3.into()), "{status}");
    app.write("go", "");
    for browser in &mut held {
        assert_eq!(browser.chunk().as_deref(), Some("second\n"));
        assert_eq!(browser.chunk(), None);
    }
    // Forked ones share neither database nor random numbers with each other: each makes tokens and sessions.
    let mut visitors: Vec<_> = (0..3).map(|_| Visitor::to(&front)).collect();
    visitors.iter_mut().for_each(log_in);
    let mut sessions: Vec<_> = visitors.iter().map(|visitor| visitor.cookie("sessionid")).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
    assert!(front.end().success());
}
