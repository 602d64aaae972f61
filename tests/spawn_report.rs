//! What is told of an application that could not be started: to a browser, to a tool, to a terminal; and to whom not.

mod support;

use support::apps;
use support::front::Front;
use support::http::Answer;

fn asked(front: &Front, accept: &str) -> Answer {
    let mut browser = front.browser();
    browser.ask("GET", "/", &format!("Accept: {accept}\r\n"));
    browser.answer()
}

fn broken() -> apps::App {
    let app = apps::script("echo 'what <it> said'; exit 3");
    app.write(
        "hatchery.toml",
        "command = [\"sh\", \"start.sh\"]\n[env]\nSHOP_PASSWORD = \"hunter2\"\nSHOP_COLOUR = \"red\"\n",
    );
    app
}

#[test]
fn in_development_everybody_is_told_in_their_own_form() {
    let app = broken();
    let front = Front::of(app.root(), &[]);
    let page = asked(&front, "text/html");
    assert_eq!((page.status, page.header("content-type")), (502, "text/html; charset=utf-8"));
    assert!(page.body.contains("what &lt;it&gt; said") && page.body.contains("exit status 3"), "{}", page.body);
    assert!(page.body.contains("Try again") && !page.body.contains("<script"), "{}", page.body);
    assert!(page.body.contains("<details>") && page.body.contains("SHOP_COLOUR=red"), "{}", page.body);
    assert!(page.body.contains(app.root().to_str().unwrap()));

    let json = asked(&front, "application/json");
    assert_eq!((json.status, json.header("content-type")), (502, "application/json"));
    let report: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(report["error"], report["problem"]);
    assert!(report["error"].as_str().unwrap().contains("exit status 3"), "{report}");
    assert_eq!(report["exit"]["status"], 3);
    assert_eq!(report["setup"]["command"], serde_json::json!(["sh", "start.sh"]));

    let text = asked(&front, "*/*").body;
    assert!(text.contains("what <it> said") && text.contains("  command: sh start.sh"), "{text}");
    for told in [&page.body, &json.body, &text, &front.log()] {
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert!(front.end().success());
}

#[test]
fn in_production_nothing_of_it_is_shown_and_the_log_has_it() {
    let app = broken();
    let front = Front::of(app.root(), &["-e", "production"]);
    for accept in ["text/html", "application/json", "*/*"] {
        let answer = asked(&front, accept);
        assert_eq!(answer.status, 502);
        for secret in ["what", "SHOP_COLOUR", "start.sh", app.root().to_str().unwrap()] {
            assert!(!answer.body.contains(secret), "{accept}: {}", answer.body);
        }
    }
    let log = front.log();
    assert!(log.contains("what <it> said") && log.contains("SHOP_COLOUR=red") && !log.contains("hunter2"), "{log}");
    assert!(front.end().success());
}
