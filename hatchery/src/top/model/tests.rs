use super::*;
use serde_json::{Value, json};

pub(in crate::top) fn app(name: &str, state: &str, served: u64, sessions: &[(u64, f64)]) -> Value {
    let open: Vec<Value> =
        sessions.iter().map(|(id, age)| json!({ "id": id, "age_s": age, "doing": format!("GET /{id}") })).collect();
    let worker = json!({
        "id": served + 1, "pid": 4000 + served, "state": if open.is_empty() { "ready" } else { "busy" }, "generation": 1,
        "sessions": open.len(), "doing": [], "open": open, "served": served, "memory_bytes": 20 << 20, "cpu_s": 1.5,
        "uptime_s": 80.0, "idle_s": null,
    });
    json!({
        "root": format!("/srv/{name}"), "name": name, "tenant": null, "state": state, "limit": null, "disabled": null,
        "generation": 1, "restart": null, "waiting": sessions.len(), "oldest_wait_s": null, "served": served,
        "memory_bytes": 20 << 20, "cpu_s": served as f64 / 10.0, "failure": null, "workers": [worker],
        "preloaders": [],
    })
}

pub(in crate::top) fn status(apps: &[Value]) -> Status {
    let status = json!({
        "version": "1.0.0", "max": 6, "count": apps.len(), "active": 1, "waiting": 2, "uptime_s": 90.0, "apps": apps,
        "post_mortems": [], "tenants": [],
    });
    serde_json::from_value(status).expect("a status")
}

/// Three apps; the second is the busiest.
pub(in crate::top) fn some() -> Model {
    let mut model = Model::new();
    for (at, served) in [(0.0, 0), (1.0, 50)] {
        let apps = [
            app("api", "idle", 3, &[]),
            app("shop", "running", 10 + served, &[(17, 3.0), (18, 75.0)]),
            app("wiki", "stopped", 5, &[]),
        ];
        model.seen(status(&apps), at);
    }
    model
}

fn names(model: &Model) -> Vec<&str> {
    model.rows().iter().map(|row| row.app.name.as_str()).collect()
}

fn press(model: &mut Model, keys: &str) -> Option<Act> {
    let mut last = None;
    for key in keys.chars() {
        last = model.key(Key::Char(key));
    }
    last
}

fn order(line: &str, what: &str) -> Option<Act> {
    Some(Act::Say(Order { line: line.into(), what: what.into() }))
}

#[test]
fn apps_are_sorted_by_any_column_and_back() {
    let mut model = some();
    assert_eq!(names(&model), ["api", "shop", "wiki"]);
    press(&mut model, "S");
    assert_eq!(names(&model), ["wiki", "shop", "api"]);
    press(&mut model, "S");
    let mut firsts = Vec::new();
    for column in Column::ALL {
        assert_eq!(model.sort, column);
        firsts.push(names(&model)[0].to_owned());
        press(&mut model, "s");
    }
    assert_eq!(firsts, ["api", "wiki", "api", "shop", "shop", "shop", "api", "shop"]);
    assert_eq!(model.sort, Column::Name);
    model.key(Key::Left);
    assert_eq!(model.sort, Column::Cpu);
}

#[test]
fn the_selection_stays_with_its_app_wherever_that_stands() {
    let mut model = some();
    assert_eq!(model.selected().unwrap().app.name, "api");
    model.key(Key::Down);
    assert_eq!(model.selected().unwrap().app.name, "shop");
    press(&mut model, "S");
    assert_eq!((model.selected().unwrap().app.name.as_str(), model.place()), ("shop", Some(1)));
    for (key, name) in [(Key::End, "api"), (Key::Home, "wiki"), (Key::PageDown, "api"), (Key::Down, "api")] {
        model.key(key);
        assert_eq!(model.selected().unwrap().app.name, name, "{key:?}");
    }
    model.seen(status(&[app("shop", "running", 60, &[])]), 2.0);
    assert_eq!(model.selected().unwrap().app.name, "shop", "it is gone, another is selected");
    model.seen(status(&[]), 3.0);
    assert!(model.selected().is_none() && model.lines().is_empty() && press(&mut model, "re").is_none());
    assert!(model.note.as_ref().unwrap().bad);
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut model = some();
    press(&mut model, "/shop");
    assert_eq!((names(&model), &model.mode), (vec!["shop"], &Mode::Filter));
    assert_eq!(model.selected().unwrap().app.name, "shop");
    model.key(Key::Enter);
    assert_eq!((names(&model), &model.mode), (vec!["shop"], &Mode::Normal));
    press(&mut model, "/");
    (0..4).for_each(|_| drop(model.key(Key::Backspace)));
    press(&mut model, "STOPPED");
    assert_eq!(names(&model), ["wiki"], "states are words, too");
    model.key(Key::Esc);
    assert_eq!(names(&model).len(), 3);
    // q is a letter there, and no end.
    assert_eq!(press(&mut model, "/q"), None);
    assert_eq!(model.key(Key::Interrupt), Some(Act::Quit));
}

#[test]
fn what_harms_nobody_is_said_at_once() {
    let mut model = some();
    assert_eq!(press(&mut model, "r"), order("restart /srv/api graceful", "restart of api"));
    assert_eq!(model.note.as_ref().unwrap().text, "restart of api: under way");
    model.key(Key::End);
    assert_eq!(press(&mut model, "x"), order("start /srv/wiki", "start of wiki"));
    model.told("start of wiki", None, 1.25);
    assert_eq!(model.note, Some(Note { text: "start of wiki: done in 1.2 s".into(), bad: false }));
    model.told("start of wiki", Some("it can't be started\nLine 2"), 1.0);
    assert_eq!(model.note, Some(Note { text: "start of wiki: it can't be started".into(), bad: true }));
}

#[test]
fn what_ends_or_refuses_requests_is_asked_first() {
    for (key, line, what) in [
        ('R', "restart /srv/api kill", "restart (kill) of api"),
        ('x', "stop /srv/api", "stop of api"),
        ('d', "disable /srv/api from hatchery top", "disable of api"),
    ] {
        let mut model = some();
        assert_eq!(model.key(Key::Char(key)), None);
        assert!(matches!(&model.mode, Mode::Confirm { question, .. } if question.contains("api?")), "{key}");
        assert_eq!(press(&mut model, "y"), order(line, what));
        assert_eq!(model.mode, Mode::Normal);
        for no in [Key::Char('n'), Key::Esc, Key::Char(key), Key::Enter] {
            assert_eq!(model.key(Key::Char(key)), None);
            assert_eq!((model.key(no), &model.mode), (None, &Mode::Normal), "{no:?}");
        }
        assert!(model.note.as_ref().unwrap().text.ends_with("not done"));
    }
}

#[test]
fn a_session_is_ended_by_itself_or_as_the_oldest() {
    let mut model = some();
    assert_eq!((press(&mut model, "e"), &model.mode), (None, &Mode::Normal), "api has none");
    model.key(Key::Down);
    press(&mut model, "e");
    let Mode::Confirm { question, .. } = &model.mode else { panic!("{:?}", model.mode) };
    assert!(question.contains("session 18") && question.contains("GET /18"), "{question}");
    assert_eq!(press(&mut model, "y"), order("end 18", "end of session 18"));
    model.key(Key::Tab);
    model.key(Key::Down);
    press(&mut model, "e");
    assert_eq!(press(&mut model, "y"), order("end 17", "end of session 17"));
    assert_eq!(model.lines().len(), 3);
    // The worker before it stands for the oldest of its own.
    model.key(Key::Up);
    press(&mut model, "e");
    assert_eq!(press(&mut model, "y"), order("end 18", "end of session 18"));
}

#[test]
fn a_lost_pool_is_told_until_it_answers_again() {
    let mut model = some();
    model.lost("the pool is gone".into(), 5.0);
    model.lost("nobody answers".into(), 9.0);
    assert_eq!(model.absence(), Some(("nobody answers", 4.0)));
    assert_eq!(names(&model).len(), 3, "what was seen last stays");
    model.seen(status(&[]), 10.0);
    assert_eq!(model.absence(), None);
}

#[test]
fn an_app_that_can_not_be_said_is_not() {
    let mut model = Model::new();
    let mut strange = app("a \" b", "running", 1, &[]);
    strange["root"] = "/srv/a \" b".into();
    model.seen(status(&[strange]), 0.0);
    assert_eq!(press(&mut model, "r"), None);
    assert!(model.note.as_ref().unwrap().bad);
}

#[test]
fn no_key_is_too_many() {
    use Key::{Backspace, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up};
    let keys = [
        Up,
        Down,
        Left,
        Right,
        PageUp,
        PageDown,
        Home,
        End,
        Enter,
        Esc,
        Tab,
        Backspace,
        Char('/'),
        Char('a'),
        Char('e'),
        Char('R'),
        Char('x'),
        Char('?'),
        Char('y'),
        Char('S'),
        Char('\u{301}'),
    ];
    for mut model in [some(), Model::new()] {
        for first in keys {
            for second in keys {
                model.key(first);
                model.key(second);
                model.rows();
                assert!(model.place().is_none_or(|place| place < model.rows().len()));
                assert!(model.place_of_detail().is_none_or(|place| place < model.lines().len()));
            }
        }
    }
}
