//! What is shown and selected, and what keys mean.

mod columns;

pub(super) use columns::{Column, active};

use super::history::{Figures, History};
use crate::orders::{APP, word};
use hatchery_protocol::post_mortem::OpenSession;
use hatchery_protocol::status::{AppStatus, Status, WorkerStatus};
use std::collections::HashMap;

/// Rows that PageUp and PageDown pass over.
const PAGE: isize = 10;

#[derive(Debug)]
pub(super) struct Model {
    status: Option<Status>,
    /// Why there is no newer status, and since when.
    lost: Option<(String, f64)>,
    history: HashMap<String, History>,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) pane: Pane,
    /// The second pane takes all the room.
    pub(super) expanded: bool,
    /// The root of an app.
    selected: Option<String>,
    detail: Option<Detail>,
    pub(super) note: Option<Note>,
    now: f64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    Filter,
    Help,
    /// A key was pressed that ends something: y says it.
    Confirm {
        question: String,
        order: Order,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Apps,
    Details,
}

/// What can be selected in the second pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Worker(u64),
    Session(u64),
}

/// The last line but one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) text: String,
    pub(super) bad: bool,
}

/// For the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) line: String,
    /// For people, such as `restart of shop`.
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
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
    /// Ctrl-C.
    Interrupt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Quit,
    Say(Order),
}

/// An app, and what it did lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) app: &'a AppStatus,
    pub(super) history: Option<&'a History>,
}

/// A line of the second pane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    Worker(&'a WorkerStatus),
    Session(&'a WorkerStatus, &'a OpenSession),
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            status: None,
            lost: None,
            history: HashMap::new(),
            sort: Column::Name,
            reversed: false,
            filter: String::new(),
            mode: Mode::Normal,
            pane: Pane::Apps,
            expanded: false,
            selected: None,
            detail: None,
            note: None,
            now: 0.0,
        }
    }

    /// The pool has answered. `at`: seconds since some beginning.
    pub(super) fn seen(&mut self, status: Status, at: f64) {
        (self.now, self.lost) = (at, None);
        for app in &status.apps {
            let figures = Figures { at, served: app.served, cpu_s: app.cpu_s };
            self.history.entry(app.root.clone()).or_default().push(figures, app.waiting);
        }
        if self.history.len() > status.apps.len() {
            let known: std::collections::HashSet<&str> = status.apps.iter().map(|app| app.root.as_str()).collect();
            self.history.retain(|root, _| known.contains(root.as_str()));
        }
        self.status = Some(status);
        self.keep_selection();
    }

    /// The pool does not answer.
    pub(super) fn lost(&mut self, why: String, at: f64) {
        self.now = at;
        let since = self.lost.as_ref().map_or(at, |(_, since)| *since);
        self.lost = Some((why, since));
    }

    /// What became of an order: the pool's refusal, if it was one.
    pub(super) fn told(&mut self, what: &str, refusal: Option<&str>, seconds: f64) {
        let text = match refusal {
            None => format!("{what}: done in {seconds:.1} s"),
            Some(why) => format!("{what}: {}", why.lines().next().unwrap_or_default()),
        };
        self.note = Some(Note { text, bad: refusal.is_some() });
    }

    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Why there is no newer status, and for how long.
    pub(super) fn absence(&self) -> Option<(&str, f64)> {
        self.lost.as_ref().map(|(why, since)| (why.as_str(), self.now - since))
    }

    /// The apps that are shown, as they are sorted.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let filter = self.filter.to_lowercase();
        let shown = |app: &&AppStatus| {
            let tenant = app.tenant.as_deref().unwrap_or_default();
            filter.is_empty()
                || [&*app.name, &*app.root, &*app.state, tenant]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&filter))
        };
        let apps = self.status.iter().flat_map(|status| &status.apps).filter(shown);
        let mut rows: Vec<Row<'_>> = apps.map(|app| Row { app, history: self.history.get(&app.root) }).collect();
        rows.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = if self.reversed { order.reverse() } else { order };
            order.then_with(|| a.app.name.cmp(&b.app.name))
        });
        rows
    }

    pub(super) fn selected(&self) -> Option<Row<'_>> {
        let root = self.selected.as_ref()?;
        self.rows().into_iter().find(|row| row.app.root == *root)
    }

    /// Where the selected app stands among those shown.
    pub(super) fn place(&self) -> Option<usize> {
        let root = self.selected.as_ref()?;
        self.rows().iter().position(|row| row.app.root == *root)
    }

    /// The second pane: each worker of the selected app, with its sessions.
    pub(super) fn lines(&self) -> Vec<Line<'_>> {
        let workers = self.selected().map(|row| row.app.workers.as_slice()).unwrap_or_default();
        let of = |worker| std::iter::once(Line::Worker(worker)).chain(sessions_of(worker));
        workers.iter().flat_map(of).collect()
    }

    pub(super) fn place_of_detail(&self) -> Option<usize> {
        let detail = self.detail?;
        self.lines().iter().position(|line| line.detail() == detail)
    }

    pub(super) fn key(&mut self, key: Key) -> Option<Act> {
        if key == Key::Interrupt {
            return Some(Act::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Normal) {
            Mode::Normal => self.command(key),
            Mode::Help => None,
            Mode::Filter => {
                self.type_filter(key);
                None
            }
            Mode::Confirm { order, .. } => match key {
                Key::Char('y' | 'Y') => Some(self.say(order)),
                _ => {
                    self.note = Some(Note { text: format!("{}: not done", order.what), bad: false });
                    None
                }
            },
        }
    }

    fn command(&mut self, key: Key) -> Option<Act> {
        match key {
            Key::Char('q') => return Some(Act::Quit),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-PAGE),
            Key::PageDown => self.step(PAGE),
            Key::Home => self.step(isize::MIN),
            Key::End => self.step(isize::MAX),
            Key::Right | Key::Char('s') => self.sort = self.sort.next(),
            Key::Left => self.sort = self.sort.previous(),
            Key::Char('S') => self.reversed = !self.reversed,
            Key::Tab => {
                self.pane = if self.pane == Pane::Apps { Pane::Details } else { Pane::Apps };
                self.keep_selection();
            }
            Key::Enter => self.expanded = !self.expanded,
            Key::Esc => (self.filter, self.expanded, self.pane) = (String::new(), false, Pane::Apps),
            Key::Char('e') => self.end_session(),
            Key::Char(key @ ('r' | 'R' | 'x' | 'd')) => return self.of_app(key),
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        self.mode = Mode::Filter;
        match key {
            Key::Char(character) => self.filter.push(character),
            Key::Backspace => drop(self.filter.pop()),
            Key::Esc => (self.filter, self.mode) = (String::new(), Mode::Normal),
            Key::Enter => self.mode = Mode::Normal,
            _ => {}
        }
        self.keep_selection();
    }

    /// What a key does with the selected app; at once, or after a question if anybody's request may suffer.
    fn of_app(&mut self, key: char) -> Option<Act> {
        let Some(Row { app, .. }) = self.selected() else {
            self.note = Some(Note { text: "no application is selected".to_owned(), bad: true });
            return None;
        };
        let name = app.name.clone();
        let (verb, mode, what, harm) = match (key, &*app.state) {
            ('r', _) => ("restart", " graceful", "restart", None),
            ('R', _) => ("restart", " kill", "restart (kill)", Some("its open requests are ended")),
            ('x', "stopped") => ("start", "", "start", None),
            ('x', _) => ("stop", "", "stop", Some("it refuses requests until it is started")),
            ('d', "disabled") => ("enable", "", "enable", None),
            _ => ("disable", " from hatchery top", "disable", Some("it refuses requests until it is enabled")),
        };
        let said = word(APP, &app.root).or_else(|_| word(APP, &app.name)).map(|app| format!("{verb} {app}{mode}"));
        let order = match said {
            Ok(line) => Order { line, what: format!("{what} of {name}") },
            Err(why) => {
                self.note = Some(Note { text: why, bad: true });
                return None;
            }
        };
        match harm {
            None => Some(self.say(order)),
            Some(harm) => {
                self.mode = Mode::Confirm { question: format!("{what} {name}? {harm} (y/n)"), order };
                None
            }
        }
    }

    /// Asks whether to end the selected session; else the oldest of the selected worker, or of the selected app.
    fn end_session(&mut self) {
        let lines = self.lines();
        let of_pane = if self.pane == Pane::Details { self.detail } else { None };
        let sessions = lines.iter().filter_map(|line| match line {
            Line::Session(worker, session) => Some((worker.id, *session)),
            Line::Worker(_) => None,
        });
        let meant = sessions.filter(|(worker, session)| match of_pane {
            Some(Detail::Session(id)) => session.id == id,
            Some(Detail::Worker(id)) => *worker == id,
            None => true,
        });
        let oldest = meant.max_by(|(_, a), (_, b)| a.age_s.total_cmp(&b.age_s));
        match oldest {
            None => self.note = Some(Note { text: "no session is open there".to_owned(), bad: true }),
            Some((worker, session)) => {
                let id = session.id;
                let doing = session.doing.clone().map(|doing| format!(" ({doing})")).unwrap_or_default();
                let question = format!("end session {id} at worker {worker}{doing}? (y/n)");
                let order = Order { line: format!("end {id}"), what: format!("end of session {id}") };
                self.mode = Mode::Confirm { question, order };
            }
        }
    }

    fn say(&mut self, order: Order) -> Act {
        self.note = Some(Note { text: format!("{}: under way", order.what), bad: false });
        Act::Say(order)
    }

    fn step(&mut self, by: isize) {
        match self.pane {
            Pane::Apps => {
                let roots: Vec<String> = self.rows().iter().map(|row| row.app.root.clone()).collect();
                let to = moved(self.place(), by, roots.len());
                if to.and_then(|to| roots.get(to)) != self.selected.as_ref() {
                    self.detail = None;
                }
                self.selected = to.map(|to| roots[to].clone());
            }
            Pane::Details => {
                let details: Vec<Detail> = self.lines().iter().map(Line::detail).collect();
                self.detail = moved(self.place_of_detail(), by, details.len()).map(|to| details[to]);
            }
        }
        self.keep_selection();
    }

    /// Something is selected wherever there is something.
    fn keep_selection(&mut self) {
        if self.place().is_none() {
            self.selected = self.rows().first().map(|row| row.app.root.clone());
        }
        if self.place_of_detail().is_none() {
            self.detail = self.lines().first().map(Line::detail);
        }
    }
}

impl Line<'_> {
    fn detail(&self) -> Detail {
        match self {
            Self::Worker(worker) => Detail::Worker(worker.id),
            Self::Session(_, session) => Detail::Session(session.id),
        }
    }
}

fn sessions_of(worker: &WorkerStatus) -> impl Iterator<Item = Line<'_>> {
    worker.open.iter().map(move |session| Line::Session(worker, session))
}

fn moved(place: Option<usize>, by: isize, count: usize) -> Option<usize> {
    let last = count.checked_sub(1)?;
    Some(place.unwrap_or(0).saturating_add_signed(by).min(last))
}

#[cfg(test)]
pub(super) mod tests;
