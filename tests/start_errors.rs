//! What is told of an application that can't be started: for each way to fail, one sentence of what is wrong and one
//! of what helps, in every form; and in production nothing of it to visitors.

mod support;

#[path = "start_errors/cases.rs"]
mod cases;

use cases::{Case, Ended};
use hatchery_protocol::report::escape;
use serde_json::{Value, json};
use support::apps::{self, App};
use support::front::Front;
use support::http::Browser;
use support::{runtimes, until_blocking};

/// What a manifest gives each of them; the value of the first is nobody's business.
const ENV: &str = "\n[env]\nSHOP_PASSWORD = \"hunter2\"\nSHOP_COLOUR = \"red\"\n";

#[test]
fn what_python_can_not_load() {
    all("what Python can't load", &cases::LOADED);
}

#[test]
fn what_can_not_be_executed() {
    all("what can't be executed", &cases::EXECUTED);
}

#[test]
fn what_ends_before_it_is_ready() {
    all("what ends before it is ready", &cases::ENDED);
}

#[test]
fn what_is_never_reached() {
    all("what is never reached", &cases::UNREACHED);
}

fn all(test: &str, cases: &[Case]) {
    let Some(python) = runtimes::plain_python(test) else { return };
    let python = python.to_str().expect("a path of text");
    for case in cases {
        let app = app(case, python);
        let root = app.root().to_str().expect("a path of text").to_owned();
        let filled = |text: &str| text.replace("ROOT", &root).replace("PYTHON", python);
        let serve = |environment| Front::of(app.root(), &[&["-e", environment][..], &OPTIONS, case.options].concat());
        let (development, production) = (serve("development"), serve("production"));
        // Who waits for the same start is told the same, so it need not be waited for again.
        let mut asked = ["application/json", "text/html", "*/*"].map(|accept| asking(&development, accept));
        let mut of_production = ["application/json", "text/html", "*/*"].map(|accept| asking(&production, accept));

        let report = report(&mut asked[0], case.name);
        told(case, &report, filled);
        setup(case, &report);
        page(&mut asked[1], &report);
        let text = asked[2].answer();
        assert_eq!((text.status, text.header("content-type")), (502, "text/plain; charset=utf-8"), "{}", case.name);
        log(case, &development, &report, &text.body);
        for browser in &mut of_production {
            nothing_is_told(case, browser, &report);
        }
        log(case, &production, &report, "");
        assert!(development.end().success() && production.end().success());
    }
}

/// One start at a time, and a limit of each to be shown.
const OPTIONS: [&str; 4] = ["--max", "1", "--limit-nofile", "300"];

fn app(case: &Case, python: &str) -> App {
    let app = apps::with_manifest(&format!("{}{ENV}", case.manifest.replace("PYTHON", python)));
    for (name, text) in case.files {
        app.executable(name, text);
    }
    app
}

fn asking(front: &Front, accept: &str) -> Browser {
    let mut browser = front.browser();
    browser.ask("GET", "/", &format!("Accept: {accept}\r\n"));
    browser
}

fn report(browser: &mut Browser, case: &str) -> Value {
    let answer = browser.answer();
    assert_eq!((answer.status, answer.header("content-type")), (502, "application/json"), "{case}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{case}: {error}: {}", answer.body))
}

fn word<'a>(report: &'a Value, name: &str) -> &'a str {
    report[name].as_str().unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// The sentences name the thing, and what was seen of it is there.
fn told(case: &Case, report: &Value, filled: impl Fn(&str) -> String) {
    for (what, wanted) in [("problem", case.problem), ("remedy", case.remedy), ("output", case.output)] {
        for wanted in wanted {
            let (said, wanted) = (word(report, what), filled(wanted));
            assert!(said.contains(&wanted), "{}: no {wanted:?} in the {what}: {report:#}", case.name);
        }
        assert!(what == "output" || !word(report, what).contains('\n'), "one sentence: {report:#}");
    }
    assert!(word(report, "remedy").ends_with('.'), "a sentence: {report:#}");
    assert_eq!(report["error"], report["problem"]);
    assert_eq!(word(report, "step"), case.step, "{}: {report:#}", case.name);
    let exit = match case.exit {
        Ended::Not => Value::Null,
        Ended::Status(status) => json!({ "status": status }),
        Ended::Signal(signal) => json!({ "signal": signal }),
    };
    assert_eq!(report["exit"], exit, "{}: {report:#}", case.name);
}

/// What it was to be is told as soon as that is known.
fn setup(case: &Case, report: &Value) {
    let setup = &report["setup"];
    let own = nix::unistd::geteuid();
    let user = if own.is_root() { nix::unistd::Uid::from_raw(apps::NOBODY) } else { own };
    let user = nix::unistd::User::from_uid(user).expect("the user database").expect("a user with a name").name;
    assert_eq!(word(setup, "user"), user);
    assert_eq!(word(setup, "directory"), word(report, "root"));
    let has = |list: &str, pair: [&str; 2]| {
        assert!(setup[list].as_array().expect("a list").contains(&json!(pair)), "{}: {pair:?}: {report:#}", case.name);
    };
    has("limits", ["limit_nofile", "300"]);
    if case.step == "inspect" {
        // Nothing of the application's own was read to the end.
        return has("environment", ["HATCHERY_ENV", "development"]);
    }
    has("environment", ["SHOP_COLOUR", "red"]);
    has("environment", ["SHOP_PASSWORD", "(hidden)"]);
    let command = setup["command"].as_array().expect("a command");
    assert!(!command.is_empty(), "{report:#}");
}

fn page(browser: &mut Browser, report: &Value) {
    let page = browser.answer();
    assert_eq!((page.status, page.header("content-type")), (502, "text/html; charset=utf-8"), "{page:?}");
    for what in ["problem", "remedy"] {
        assert!(page.body.contains(&escape(word(report, what))), "no {what}: {}", page.body);
    }
    let output = word(report, "output").trim();
    assert!(page.body.contains(&escape(output)), "no output {output:?}: {}", page.body);
    let known = report["step"] != "inspect";
    assert_eq!(page.body.contains("SHOP_COLOUR=red"), known, "{}", page.body);
    assert!(!page.body.contains("hunter2") && !page.body.contains("<script"), "{}", page.body);
}

/// The log has all of it, and so has who reads text.
fn log(case: &Case, front: &Front, report: &Value, text: &str) {
    let in_log =
        until_blocking("the report is in the log", || Some(front.log()).filter(|log| log.contains("It failed while")));
    for told in [in_log.as_str(), text].into_iter().filter(|told| !told.is_empty()) {
        for wanted in case.problem.iter().filter(|wanted| !wanted.contains("ROOT") && !wanted.contains("PYTHON")) {
            assert!(told.contains(wanted), "{}: no {wanted:?} in {told}", case.name);
        }
        assert!(told.contains(word(report, "remedy")), "{}: no remedy in {told}", case.name);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

fn nothing_is_told(case: &Case, browser: &mut Browser, report: &Value) {
    let answer = browser.answer();
    assert_eq!(answer.status, 502, "{}: {answer:?}", case.name);
    let output = word(report, "output").lines().filter(|line| line.trim().len() > 8);
    let secrets = ["problem", "remedy", "root"].map(|what| word(report, what));
    for secret in secrets.into_iter().chain(output).chain(["SHOP_COLOUR", "start.sh", "shop.py", "hunter2"]) {
        assert!(!answer.body.contains(secret), "{}: {secret:?} is told: {}", case.name, answer.body);
        assert!(!answer.body.contains(&escape(secret)), "{}: {secret:?} is told: {}", case.name, answer.body);
    }
}
