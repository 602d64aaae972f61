//! Metrics of a whole server: they add up to what was sent, never go down, and have names that tools accept.

mod support;

use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use support::apps::{self, App};
use support::front::Front;
use support::http::Browser;
use support::live_page::{LivePage, Series};
use support::{has, processes, until_blocking};

fn serve(apps: &[(&str, &App)], further: &[&str]) -> (Front, LivePage) {
    let apps = apps.iter().map(|(host, app)| format!("{host}={}", app.root().display()));
    let words = apps.flat_map(|app| ["--app".to_owned(), app]);
    let further = ["--admin-http", "0"].iter().chain(further).map(|word| (*word).to_owned());
    let mut front = Front::serve(words.chain(further));
    let page = LivePage::of(&mut front);
    (front, page)
}

fn ask(browser: &mut Browser, host: &str, path: &str) -> u16 {
    browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    browser.answer().status
}

fn name(app: &App) -> String {
    app.root().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Answers by app and status.
fn answered(series: &Series) -> BTreeMap<String, u64> {
    let counts = series.iter().filter(|(name, _)| name.starts_with("hatchery_http_requests_total{"));
    counts.map(|(name, count)| (name.clone(), *count as u64)).collect()
}

fn checked(text: &str) {
    if !has("promtool", "names and units of metrics") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

#[test]
fn a_scrape_under_load_adds_up_to_what_was_sent() {
    let (shop, blog, broken) = (apps::worker(), apps::worker(), apps::script("echo it is broken >&2; exit 1"));
    let hosts = [("shop.test", &shop), ("blog.test", &blog), ("broken.test", &broken)];
    let (front, page) = serve(&hosts, &["--max", "4"]);
    assert!(front.say(&["stop", &name(&blog)]).status.success());
    let kinds = [
        ("shop.test", "/a"),
        ("shop.test", "/b?c"),
        ("shop.test", "/empty?404"),
        ("shop.test", "/empty?500"),
        ("shop.test", "/nonsense"),
        ("blog.test", "/"),
        ("broken.test", "/"),
        ("nobody.test", "/"),
    ];
    let app = |host: &str| match host {
        "shop.test" => name(&shop),
        "blog.test" => name(&blog),
        "broken.test" => name(&broken),
        _ => String::new(),
    };
    let sent = std::thread::scope(|scope| {
        let clients = (0..4).map(|_| {
            scope.spawn(|| {
                let mut browser = front.browser();
                let mut seen = BTreeMap::<String, u64>::new();
                for (host, path) in kinds.iter().cycle().take(kinds.len() * 12) {
                    let status = ask(&mut browser, host, path);
                    let series = format!("hatchery_http_requests_total{{app={:?},status=\"{status}\"}}", app(host));
                    *seen.entry(series).or_default() += 1;
                }
                seen
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut sent = BTreeMap::<String, u64>::new();
        for client in clients {
            client.join().unwrap().into_iter().for_each(|(series, count)| *sent.entry(series).or_default() += count);
        }
        sent
    });
    let series = page.series();
    assert_eq!(answered(&series), sent);
    assert_eq!(sent.values().sum::<u64>(), 4 * 12 * kinds.len() as u64);
    for status in ["200", "404", "500", "502", "503"] {
        assert!(sent.keys().any(|series| series.contains(status)), "{status} in {sent:?}");
    }
    let of = |series: &Series, figure: &str, app: &str, more: &str| {
        let wanted = format!("{figure}{{app={app:?}{more}}}");
        *series.get(&wanted).unwrap_or_else(|| panic!("{wanted} in {series:#?}"))
    };
    assert_eq!(of(&series, "hatchery_refusals_total", &name(&blog), ",reason=\"stopped\""), 48.0);
    let refused = series.iter().filter(|(series, _)| {
        series.starts_with("hatchery_refusals_total") && series.contains(&format!("{:?}", name(&broken)))
    });
    assert_eq!(refused.map(|(_, count)| count).sum::<f64>(), 48.0, "{series:#?}");
    // The end of an answer is known a moment after its client has read it.
    until_blocking("all answers have ended", || {
        let series = page.series();
        (of(&series, "hatchery_http_requests_open", &name(&shop), "") == 0.0
            && of(&series, "hatchery_http_request_seconds_count", &name(&shop), "") == 240.0
            && of(&series, "hatchery_open_sessions", &name(&shop), "") == 0.0)
            .then_some(())
    });
    let series = page.series();
    let granted = of(&series, "hatchery_sessions_total", &name(&shop), "");
    assert!(granted >= 240.0, "{granted}");
    let ended = series.iter().filter(|(series, _)| {
        series.starts_with("hatchery_sessions_ended_total") && series.contains(&format!("{:?}", name(&shop)))
    });
    assert_eq!(ended.map(|(_, count)| count).sum::<f64>(), granted);
    assert_eq!(of(&series, "hatchery_session_seconds_count", &name(&shop), ""), granted);
    checked(&page.scrape());
    assert!(front.end().success());
}

#[test]
fn requests_for_what_is_not_there_add_no_series() {
    let shop = apps::worker();
    let (front, page) = serve(&[("shop.test", &shop)], &["--max", "1"]);
    let names = |page: &LivePage| page.series().into_keys().collect::<BTreeSet<_>>();
    let mut browser = front.browser();
    assert_eq!((ask(&mut browser, "shop.test", "/a"), ask(&mut browser, "none.test", "/a")), (200, 404));
    let before = until_blocking("the first answers have ended", || {
        let names = names(&page);
        names.contains("hatchery_http_request_seconds_count{app=\"\"}").then_some(names)
    });
    for number in 0..10_000 {
        let (host, status) =
            if number % 100 == 0 { ("shop.test".into(), 200) } else { (format!("{number}.test"), 404) };
        assert_eq!(ask(&mut browser, &host, &format!("/{number}?{number}")), status);
    }
    assert_eq!(names(&page), before);
    assert_eq!(page.series()["hatchery_http_requests_total{app=\"\",status=\"404\"}"], 9901.0);
    assert!(front.end().success());
}

#[test]
fn counters_never_go_down_but_for_those_of_a_core_that_began_anew() {
    let shop = apps::worker();
    let (front, page) = serve(&[("shop.test", &shop)], &["--max", "2"]);
    let mut browser = front.browser();
    for _ in 0..20 {
        assert_eq!(ask(&mut browser, "shop.test", "/"), 200);
    }
    let began = |series: &Series| series.get("hatchery_pool_started_timestamp_seconds").copied();
    let is_counter = |name: &str| {
        let name = name.split('{').next().unwrap();
        ["_total", "_count", "_bucket", "_sum"].iter().any(|end| name.ends_with(end))
    };
    let mut before = page.series();
    let first = began(&before).expect("a core");
    let core = processes::marked("HATCHERY_POOL", &front.pool());
    let core = core.into_iter().find(|pid| processes::command_line(*pid).trim_end().ends_with("core")).unwrap();
    processes::kill(core, Signal::SIGKILL);
    until_blocking("another core has counted", || {
        ask(&mut browser, "shop.test", "/");
        let now = page.series();
        for (name, value) in before.iter().filter(|(name, _)| is_counter(name)) {
            let own = name.starts_with("hatchery_http_") || name.contains("process=\"web_server\"");
            if own || (began(&now) == began(&before) && began(&now).is_some()) {
                assert!(now.get(name).is_some_and(|now| now >= value), "{name} was {value}: {:?}", now.get(name));
            }
        }
        assert_eq!(now["hatchery_pool_up"], f64::from(u8::from(began(&now).is_some())));
        before = now;
        let sessions = format!("hatchery_sessions_total{{app={:?}}}", name(&shop));
        let anew = began(&before).is_some_and(|began| began > first);
        (anew && before.get(&sessions).is_some_and(|count| *count >= 1.0)).then_some(())
    });
    assert!(front.end().success());
}

#[test]
fn an_app_of_any_name_is_a_label() {
    let folder = tempfile::tempdir().unwrap();
    apps::open_to_all(folder.path());
    let root = folder.path().join("a \"quoted\"\nname\\");
    std::fs::create_dir(&root).unwrap();
    apps::open_to_all(&root);
    apps::give(&root, apps::NOBODY);
    let app = apps::worker();
    let manifest = root.join("hatchery.toml");
    std::fs::copy(app.root().join("hatchery.toml"), &manifest).unwrap();
    apps::give(&manifest, apps::NOBODY);
    let mut front = Front::of(&root, &["--admin-http", "0"]);
    let page = LivePage::of(&mut front);
    assert_eq!(front.get("/a").status, 200);
    let text = page.scrape();
    let line = r#"hatchery_http_requests_total{app="a \"quoted\"\nname\\",status="200"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    checked(&text);
    assert!(front.end().success());
}

#[test]
fn a_connection_that_is_no_http_any_more_is_counted_as_it_was_answered() {
    let app = apps::worker();
    let (front, page) = serve(&[("shop.test", &app)], &[]);
    let mut open = front.browser();
    open.send("GET /switch HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(open.answer_head().status, 101);
    let of = |figure: &str, more: &str| page.series()[&format!("{figure}{{app={:?}{more}}}", name(&app))];
    assert_eq!(of("hatchery_http_requests_total", ",status=\"101\""), 1.0);
    assert_eq!(of("hatchery_open_sessions", ""), 1.0);
    drop(open);
    until_blocking("its session is over", || (of("hatchery_open_sessions", "") == 0.0).then_some(()));
}
