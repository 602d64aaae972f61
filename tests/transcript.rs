//! What can be typed into the admin socket: every command that `help` lists, in both forms, and what it answers.

mod support;

use serde_json::Value;
use support::admin::Line;
use support::apps::{self, App};
use support::front::Front;
use support::until_blocking;

/// A line, how its answer ends, and what its answer as JSON has besides `ok`.
struct Case {
    line: String,
    ends: &'static str,
    keys: &'static [&'static str],
}

fn case(line: impl Into<String>, ends: &'static str, keys: &'static [&'static str]) -> Case {
    Case { line: line.into(), ends, keys }
}

/// `None`: nobody has thought of it here.
fn cases(command: &str, front: &Front, other: &App) -> Option<Vec<Case>> {
    let root = front.status()["apps"][0]["root"].as_str().expect("a root").to_owned();
    let name = root.rsplit('/').next().expect("a name").to_owned();
    let other = other.root().display();
    let done = |line: &str| case(format!("{line} {name}"), "ok", &[]);
    Some(match command {
        "help" => vec![case("help", "ok", &["help", "commands"]), case("help me", "error: takes no words", &["error"])],
        // It stands before each of the others.
        "json" => Vec::new(),
        "status" => vec![
            case("status", "ok", &["version", "max", "count", "active", "waiting", "apps", "tenants"]),
            done("status"),
            case("status nothing", "error: no application 'nothing'", &["error"]),
        ],
        "list" => vec![case("list", "ok", &["apps"])],
        "sessions" => {
            vec![case("sessions", "ok", &["sessions"]), case(format!("sessions {root}"), "ok", &["sessions"])]
        }
        "events" => vec![
            case("events", "ok", &["events"]),
            case("events 3", "ok", &["events"]),
            case("events json 3", "ok", &["events"]),
            case("events soon", "error: takes a number", &["error"]),
        ],
        "logs" => vec![
            case(format!("logs {name}"), "ok", &["lines", "file"]),
            case(format!("logs {root} 3 json"), "ok", &["lines", "file"]),
            case("logs", "error: needs one application", &["error"]),
        ],
        "metrics" => vec![case("metrics", "ok", &["version", "started_at", "max", "processes", "apps", "tenants"])],
        "restart" => vec![
            done("restart"),
            case(format!("restart {name} kill"), "ok", &[]),
            case(format!("restart {name} rudely"), "error: no mode 'rudely'", &["error"]),
        ],
        "deploy" | "rollback" => vec![case(format!("{command} {name}"), "error: ", &["error"])],
        "stop" | "start" | "enable" => vec![done(command)],
        "disable" => vec![case(format!("disable {name} it moves house"), "ok", &[])],
        "add" => vec![
            case(format!("add {other} max_idle=1h watch_ignore=a watch_ignore=b"), "ok", &[]),
            case(format!("add {other} tenant=nobody"), "error: tenant: there is no tenant \"nobody\"", &["error"]),
            case("add here", "error: ", &["error"]),
        ],
        "remove" => vec![case("remove nothing", "error: no application", &["error"])],
        "set" => vec![
            case(format!("set {name} max_idle=7m"), "ok", &[]),
            case("set max_queue=50", "ok", &["notes"]),
            case("set max=5", "ok", &["notes"]),
            case("set max", "error: needs a setting", &["error"]),
            case("set listen=:80", "error: listen can't change while the pool runs", &["error"]),
            case("set min_uid=5", "error: min_uid is taken from the configuration alone", &["error"]),
            case("set nonsense=5", "error: there is no key nonsense", &["error"]),
        ],
        "get" => vec![
            case("get", "ok", &["settings"]),
            case("get max", "ok", &["key", "value", "from", "changed"]),
            case(format!("get {name}"), "ok", &["settings"]),
            case(format!("get {name} max_idle"), "ok", &["key", "value", "from", "changed"]),
            case("get listen", "error: listen is the web server's", &["error"]),
        ],
        "retire" => vec![case("retire nobody", "error: no worker 'nobody'", &["error"])],
        "end" => vec![case("end 99999", "error: no session '99999' is open: none is", &["error"])],
        "clear" => vec![case("clear", "ok", &[])],
        "reload" => vec![case("reload", "ok", &[]), case("reload it", "error: takes no words", &["error"])],
        "quit" | "shutdown" => vec![case(format!("{command} now"), "error: takes no words", &["error"])],
        _ => return None,
    })
}

/// What a line is to be in both forms. An empty line ends what would go on.
fn transcript(front: &Front, Case { line, ends, keys }: &Case) {
    let mut typed = Line::to(front);
    let (_, last) = typed.ask(&format!("{line}\n"));
    if *ends == "ok" {
        assert_eq!(last, "ok", "{line}");
    } else {
        assert!(last.starts_with(ends), "{line}: {last}");
    }
    // It is still there, and the answer was one.
    assert_eq!(typed.ask("list").1, "ok", "{line}");

    typed.say(&format!("json {line}\n"));
    let text = typed.line();
    assert!(text.starts_with(if *ends == "ok" { "{\"ok\":true" } else { "{\"ok\":false" }), "{line}: {text}");
    let json: Value = serde_json::from_str(&text).expect("one line of JSON");
    for key in *keys {
        assert!(json.get(key).is_some(), "{line}: no {key} in {text}");
    }
    assert_eq!(typed.ask("list").1, "ok", "{line}");
}

#[test]
fn every_command_of_the_help_answers_in_lines_and_as_json() {
    let (app, other) = (apps::worker(), apps::worker());
    let front = Front::of(app.root(), &["--max", "3", "--watch=false", "--trust-clients"]);
    front.get("/pid").ok();
    let (help, _) = Line::to(&front).ask("help");
    let commands: Vec<&str> =
        help.iter().filter_map(|line| line[2..].split(' ').next()).filter(|word| !word.is_empty()).collect();
    assert!(commands.len() > 20, "{help:?}");
    for command in commands {
        let cases = cases(command, &front, &other).unwrap_or_else(|| panic!("{command} has no case in this test"));
        cases.iter().for_each(|case| transcript(&front, case));
    }
    assert!(front.get("/pid").ok().parse::<u32>().is_ok(), "and it serves");
}

#[test]
fn sessions_are_seen_and_ended_by_hand_in_both_forms() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let mut line = Line::to(&front);
    for json in [false, true] {
        let mut open = front.browser();
        open.ask("GET", &format!("/hints?{}", app.root().join("gate").display()), "");
        assert_eq!(open.answer_head().status, 103, "its worker has it: it can't be asked again elsewhere");
        let session = until_blocking("there is a session", || {
            line.json("json sessions")["sessions"].as_array().and_then(|sessions| sessions.first().cloned())
        });
        assert!(session["doing"].as_str().is_some_and(|doing| doing.starts_with("GET /hints")), "{session}");
        assert!(session["client_pid"] == front.pid(), "{session}");
        let (table, _) = line.ask("sessions");
        assert!(table.len() == 2 && table[1].contains("GET /hints"), "{table:?}");
        let id = &session["id"];
        if json {
            assert_eq!(line.json(&format!("json end {id}"))["ok"], true);
        } else {
            assert_eq!(line.ask(&format!("end {id}")).1, "ok");
        }
        assert_eq!(open.answer_head().status, 503);
        let worker = front.status()["apps"][0]["workers"][0]["id"].clone();
        if worker.is_u64() {
            line.ask(&format!("retire {worker}"));
        }
        front.until("active", 0);
    }
}

#[test]
fn events_are_told_as_they_happen_until_another_line_is_typed_which_is_obeyed() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    front.get("/pid").ok();
    let name = front.status()["apps"][0]["name"].as_str().unwrap().to_owned();
    let (mut listener, mut machine) = (Line::to(&front), Line::to(&front));
    listener.say("events 1\n");
    machine.say("events json\n");
    assert!(listener.line().starts_with("  20"), "the last one");
    // Else it might not listen yet.
    let mut other = Line::to(&front);
    assert_eq!(other.ask(&format!("restart {name}")).1, "ok");
    let done = until_blocking("it is told", || Some(listener.line()).filter(|line| line.contains(" restart_done ")));
    assert!(done.contains(&format!(" app={name}")) && done.contains(": "), "{done}");
    let mut numbers = Vec::new();
    until_blocking("it is told to machines", || {
        let event: Value = serde_json::from_str(machine.line().trim()).expect("one line of JSON");
        numbers.push(event["number"].as_u64().expect("a number"));
        (event["event"] == "restart_done" && event["app"] == *name).then_some(())
    });
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let (_, last) = listener.ask("list");
    assert_eq!(last, "ok", "of the stream");
    assert!(listener.line().starts_with("  "), "of the list");
    assert_eq!(listener.line(), "ok");
    assert_eq!(machine.ask("quit").1, "ok");
    assert_eq!(machine.line(), "ok");
    assert!(machine.has_ended());
}

#[test]
fn what_an_app_prints_is_told_and_followed() {
    let app = apps::worker_with("", &[("TEST_PRINT", "hello from the start")]);
    let front = Front::of(app.root(), &["--watch=false"]);
    let pid = front.get("/pid").ok();
    let name = front.status()["apps"][0]["name"].as_str().unwrap().to_owned();
    let mut line = Line::to(&front);
    let printed = |line: &str, pid: &str| line.contains(&format!(" {pid} stderr: hello from the start"));
    until_blocking("it is there", || {
        let (lines, last) = line.ask(&format!("logs {name}"));
        assert_eq!(last, "ok");
        lines.iter().any(|line| printed(line, &pid)).then_some(())
    });
    let mut follower = Line::to(&front);
    follower.say(&format!("logs {name} 0 follow\nlogs {name} 0 follow\n"));
    assert_eq!(follower.line(), "ok", "the first ends with the second");
    assert_eq!(line.ask(&format!("restart {name} kill")).1, "ok");
    let pid = front.get("/pid").ok();
    until_blocking("it is followed", || printed(&follower.line(), &pid).then_some(()));
    // To its end: then the app is known no more.
    assert_eq!(follower.ask("").1, "ok");
    let json = line.json(&format!("json logs {name} 500"));
    let last = json["lines"].as_array().and_then(|lines| lines.last()).cloned().unwrap();
    assert!(last["number"].is_u64() && last["at"].is_f64() && last["stream"].is_string(), "{last}");
}

#[test]
fn settings_are_shown_with_where_they_come_from_and_changed_live() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "4", "--max-idle", "9m", "--watch=false", "--trust-clients"]);
    front.get("/pid").ok();
    let name = front.status()["apps"][0]["name"].as_str().unwrap().to_owned();
    let mut line = Line::to(&front);
    let mut shown = |what: &str| {
        let (lines, last) = line.ask(&format!("get {what}"));
        assert_eq!((lines.len(), last.as_str()), (1, "ok"), "{what}");
        lines[0].trim().to_owned()
    };
    assert_eq!(shown("max"), "max = 4  # pool");
    assert_eq!(shown("surge"), "surge = 1  # default");
    assert_eq!(shown(&format!("{name} max_idle")), "max_idle = 9m  # defaults");
    assert_eq!(shown(&format!("{name} max_queue")), "max_queue = 100  # default");
    let mut line = Line::to(&front);
    for (set, get, wanted) in [
        ("set max=2".to_owned(), "max".to_owned(), "max = 2  # pool, set on the live pool"),
        ("set max_idle=3m".into(), format!("{name} max_idle"), "max_idle = 3m  # defaults, set on the live pool"),
        (format!("set {name} max_idle=90s"), format!("{name} max_idle"), "max_idle = 90s  # app, set on the live pool"),
        (
            format!("set {name} max_idle="),
            format!("{name} max_idle"),
            "max_idle = 3m  # defaults, set on the live pool",
        ),
        (
            format!("set {name} watch_ignore=*.css  *.js"),
            format!("{name} watch_ignore"),
            "watch_ignore = *.css *.js  # app, set on the live pool",
        ),
        ("set max_requests=2".into(), "max_requests".into(), "max_requests = 2  # defaults, set on the live pool"),
    ] {
        assert_eq!(line.ask(&set).1, "ok", "{set}");
        assert_eq!(line.ask(&format!("get {get}")).0, [format!("  {wanted}")], "{set}");
    }
    assert_eq!(front.status()["max"], 2);
    // It holds for what is there already.
    let first = front.get("/pid").ok();
    until_blocking("a worker is replaced after two sessions", || (front.get("/pid").ok() != first).then_some(()));
    let (notes, last) = line.ask(&format!("set {name} concurrency=3"));
    assert_eq!(last, "ok");
    assert_eq!(notes, ["  holds for workers started from now on"]);
    let (notes, _) = line.ask(&format!("set {name} environment=staging"));
    assert_eq!(notes, ["  holds from the next generation on: `restart` begins it"]);
    // What is set is gone with the next reading, but for what is an application's own.
    assert_eq!(line.ask("reload").1, "ok");
    assert_eq!(line.ask("get max").0, ["  max = 4  # pool"]);
    assert_eq!(
        line.ask(&format!("set {name} tenant=nobody")).1,
        "error: tenant: there is no tenant \"nobody\"; the configuration has no [[tenant]]"
    );
}

#[test]
fn in_a_privileged_pool_nothing_is_set_beyond_the_configuration_and_all_back_to_it() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can start a privileged pool");
    }
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "4", "--max-idle", "9m", "--watch=false"]);
    let name = front.status()["apps"][0]["name"].as_str().unwrap().to_owned();
    let mut line = Line::to(&front);
    let wide = "error: this pool is privileged, and ";
    let taken = "error: this pool is privileged, and takes ";
    for (set, ends) in [
        ("set max=5".to_owned(), wide),
        ("set max=3".into(), "ok"),
        ("set max=4".into(), "ok"),
        ("set max_idle=10m".into(), wide),
        ("set max_idle=1m".into(), "ok"),
        // Nor beyond it by an application's own.
        (format!("set {name} max_idle=10m"), wide),
        (format!("set {name} max_idle=9m"), "ok"),
        (format!("set {name} max_idle=5s"), "ok"),
        (format!("set {name} max_idle=8m"), "ok"),
        (format!("set {name} max_idle="), "ok"),
        (format!("set {name} concurrency=2"), wide),
        (format!("set {name} user=root"), taken),
        ("set user=root".into(), taken),
        ("set limit_nofile=9".into(), taken),
        (format!("add {} lower_privilege=false", app.root().display()), taken),
        (format!("add {} max_idle=10m", app.root().display()), "error: max_idle is larger than the operator allows"),
        ("set trust_clients=true".into(), "error: trust_clients is taken from the configuration alone"),
    ] {
        let (_, last) = line.ask(&set);
        assert!(if ends == "ok" { last == "ok" } else { last.starts_with(ends) }, "{set}: {last}");
    }
    assert_eq!(line.ask("get max").0, ["  max = 4  # pool"]);
    assert_eq!(line.ask(&format!("get {name} user")).0, ["  user = the owner of the start file  # default"]);
}

#[test]
fn shutdown_answers_and_ends_web_server_and_pool() {
    let mut front = Front::demo();
    front.get("/hello").ok();
    let pool = front.pool();
    assert_eq!(Line::to(&front).ask("shutdown").1, "ok");
    assert!(front.ended().success());
    front.nothing_is_left(&pool);
}
