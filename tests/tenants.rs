//! Applications of one tenant have processes and memory in common, and move between tenants while they run.

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use support::apps::{self, App};
use support::front::Front;
use support::http::Browser;
use support::{PATIENCE, until_blocking};

/// Applications behind one front, each at `NAME.localhost`.
struct Served {
    front: Front,
    apps: Vec<App>,
}

/// `tenants`: tables of the file. Of each application its name, which is its host's too, and its keys.
fn serve(pool: &str, tenants: &str, apps: &[(&str, &str)]) -> Served {
    let folder = support::front::folder();
    let mut file = format!("[pool]\n{pool}\n{tenants}\n");
    let roots: Vec<App> = apps.iter().map(|_| apps::worker()).collect();
    for ((name, keys), app) in apps.iter().zip(&roots) {
        let _ =
            writeln!(file, "[[app]]\nhost = \"{name}.localhost\"\nname = \"{name}\"\nroot = {:?}\n{keys}", app.root());
    }
    let config = folder.path().join("pool.toml");
    std::fs::write(&config, file).expect("a file");
    let mut command = support::front::hatchery(folder.path(), ["serve", "-p", "0", "--config"]);
    command.arg(&config);
    Served { front: Front::start(command, folder), apps: roots }
}

impl Served {
    fn ask(&self, app: &str, path: &str) -> Browser {
        let mut browser = self.front.browser();
        browser.send(format!("GET {path} HTTP/1.1\r\nHost: {app}.localhost\r\nConnection: close\r\n\r\n"));
        browser
    }

    fn get(&self, app: &str, path: &str) -> String {
        self.ask(app, path).answer().ok()
    }

    /// A request that is answered once `gate` is there, in the `nth` application's folder.
    fn hold(&self, app: &str, nth: usize) -> (Browser, std::path::PathBuf) {
        let gate = self.apps[nth].root().join("gate");
        let held = self.ask(app, &format!("/until?{}", gate.display()));
        self.until_app(app, "its request is at a worker", |seen| seen["workers"][0]["state"] == "busy");
        (held, gate)
    }

    fn app(&self, name: &str) -> Value {
        let status = self.front.status();
        let mut apps = status["apps"].as_array().expect("apps").iter();
        apps.find(|app| app["name"] == name).expect("the application").clone()
    }

    fn until_app(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until_blocking(what, || Some(self.app(name)).filter(&holds))
    }

    fn tenant(&self, name: &str) -> Value {
        let status = self.front.status();
        let mut tenants = status["tenants"].as_array().expect("tenants").iter();
        tenants.find(|tenant| tenant["name"] == name).expect("the tenant").clone()
    }

    /// The one line that answers a command in JSON.
    fn json(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(self.front.admin()).expect("the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.write_all(format!("json {line}\n").as_bytes()).expect("it is read");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        serde_json::from_str(&answer).expect("one line of JSON")
    }
}

const TWO: &str = "[[tenant]]\nname = \"acme\"\nmax = 1\n[[tenant]]\nname = \"blue\"\nmax = 2";

#[test]
fn a_full_tenant_holds_its_own_applications_and_nobody_elses() {
    let apps = [("shop", "tenant = \"acme\""), ("blog", "tenant = \"acme\""), ("other", "")];
    let served = serve("max = 6\nfair_wait = \"1h\"", TWO, &apps);
    let (mut held, gate) = served.hold("shop", 0);
    let mut waiting = served.ask("blog", "/pid");
    let seen = served.until_app("blog", "it waits for its tenant", |app| app["limit"] == "tenant_full");
    assert_eq!((&seen["waiting"], &seen["tenant"]), (&1.into(), &"acme".into()));
    served.get("other", "/pid");
    let tenant = served.tenant("acme");
    assert_eq!(
        (&tenant["max"], &tenant["count"], &tenant["active"], &tenant["waiting"], &tenant["apps"]),
        (&1.into(), &1.into(), &1.into(), &1.into(), &2.into())
    );
    // Its worker is idle then, and makes room.
    std::fs::write(gate, "").expect("a gate");
    held.answer().ok();
    waiting.answer().ok();
    assert_eq!(served.tenant("acme")["count"], 1);
    let figures = served.json("metrics");
    let tenants = figures["tenants"].as_array().expect("tenants");
    let acme = tenants.iter().find(|tenant| tenant["name"] == "acme").expect("acme");
    assert_eq!((&acme["sessions"], &acme["max"]), (&2.into(), &1.into()));
}

#[test]
fn a_busy_application_gives_way_to_another_of_its_tenant_that_waited_longer_than_is_fair() {
    let apps = [("shop", "tenant = \"acme\""), ("blog", "tenant = \"acme\"")];
    let served = serve("max = 6\nfair_wait = \"200ms\"", TWO, &apps);
    let (mut held, gate) = served.hold("shop", 0);
    let mut waiting = served.ask("blog", "/pid");
    served.until_app("shop", "its worker drains", |app| app["workers"][0]["state"] == "draining");
    std::fs::write(gate, "").expect("a gate");
    held.answer().ok();
    waiting.answer().ok();
}

#[test]
fn an_application_moves_to_another_tenant_while_it_serves_and_nothing_is_restarted() {
    let apps = [("shop", "tenant = \"acme\""), ("blog", "tenant = \"acme\"")];
    let served = serve("max = 6\nfair_wait = \"1h\"", TWO, &apps);
    let (mut held, gate) = served.hold("shop", 0);
    let pid = served.app("shop")["workers"][0]["pid"].clone();
    let mut waiting = served.ask("blog", "/pid");
    served.until_app("blog", "it waits for its tenant", |app| app["limit"] == "tenant_full");

    let moved = served.json("set shop tenant=blue");
    assert_eq!(moved["ok"], true, "{moved}");
    // There is room for the other one now.
    waiting.answer().ok();
    let shop = served.app("shop");
    assert_eq!((&shop["tenant"], &shop["workers"][0]["pid"], &shop["generation"]), (&"blue".into(), &pid, &1.into()));
    assert_eq!((&served.tenant("acme")["count"], &served.tenant("blue")["count"]), (&1.into(), &1.into()));
    let events = served.json("events 100");
    let events = events["events"].as_array().expect("events");
    let event = events.iter().find(|event| event["event"] == "tenant_changed").expect("the event");
    assert_eq!((&event["app"], &event["tenant"]), (&"shop".into(), &"blue".into()));
    std::fs::write(gate, "").expect("a gate");
    assert_eq!(held.answer().ok(), "waited");

    let refused = served.json("set shop tenant=bleu");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("bleu") && why.contains("blue")), "{refused}");
}

#[test]
fn idle_workers_leave_a_tenant_that_uses_too_much_memory() {
    let tenants = "[[tenant]]\nname = \"acme\"\nmax_memory = \"1M\"";
    let apps = [("shop", "tenant = \"acme\""), ("other", "")];
    let served = serve("max = 6", tenants, &apps);
    served.get("shop", "/pid");
    served.get("other", "/pid");
    served.until_app("shop", "its idle worker leaves", |app| app["workers"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(served.app("other")["workers"].as_array().map(Vec::len), Some(1));
    let events = served.json("events 1000");
    let mut events = events["events"].as_array().expect("events").iter();
    assert!(events.any(|event| event["event"] == "worker_stopping" && event["reason"] == "tenant_memory"));
    // It is served all the same when it is asked for again.
    served.get("shop", "/pid");
}
