//! Terminal, keys, and the pool's socket.

use super::draw::{Looks, draw};
use super::model::{Act, Key, Model, Order};
use crate::admin::{self, Question, Until};
use crate::cli::AdminAt;
use crate::look::wants_colours;
use crate::orders::connect;
use hatchery_protocol::status::Status;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How soon news are drawn, and signals obeyed.
const GLANCE: Duration = Duration::from_millis(100);

/// For the model.
enum News {
    Seen(Box<Status>),
    Lost(String),
    Told { what: String, refusal: Option<String>, took: Duration },
}

pub(super) fn run(delay: Duration, at: Option<AdminAt>) -> Result<(), String> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err("top needs a terminal to draw in; `hatchery status --watch` does not".to_owned());
    }
    let pool = connect(at.clone())?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(|error| format!("no signals: {error}"))?;
    }
    // Restores it at a panic, too.
    let terminal = ratatui::try_init().map_err(|error| format!("the terminal can't be drawn in: {error}"))?;
    let done = Shell::start(pool, delay, at).drive(terminal, &ended);
    ratatui::restore();
    done
}

struct Shell {
    model: Model,
    began: Instant,
    at: Option<AdminAt>,
    said: Sender<News>,
    news: Receiver<News>,
    /// Makes the next look come at once.
    nudge: Sender<()>,
}

impl Shell {
    fn start(pool: UnixStream, delay: Duration, at: Option<AdminAt>) -> Self {
        let (said, news) = mpsc::channel();
        let (nudge, nudged) = mpsc::channel();
        let (to, place) = (said.clone(), at.clone());
        std::thread::spawn(move || look_again_and_again(Some(pool), delay, place, &to, &nudged));
        Self { model: Model::new(), began: Instant::now(), at, said, news, nudge }
    }

    fn drive(mut self, mut terminal: DefaultTerminal, ended: &AtomicBool) -> Result<(), String> {
        let looks = Looks { colours: wants_colours() };
        let failed = |error: std::io::Error| format!("the terminal is gone: {error}");
        let mut stale = true;
        while !ended.load(Ordering::Relaxed) {
            while let Ok(news) = self.news.try_recv() {
                self.take(news);
                stale = true;
            }
            if std::mem::take(&mut stale) {
                terminal.draw(|frame| draw(frame, &self.model, looks)).map_err(failed)?;
            }
            match event::poll(GLANCE) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            }
            stale = true;
            let Event::Key(pressed) = event::read().map_err(failed)? else { continue };
            match key_of(pressed).and_then(|key| self.model.key(key)) {
                Some(Act::Quit) => break,
                Some(Act::Say(order)) => self.say(order),
                None => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, news: News) {
        let now = self.began.elapsed().as_secs_f64();
        match news {
            News::Seen(status) => self.model.seen(*status, now),
            News::Lost(why) => self.model.lost(why, now),
            News::Told { what, refusal, took } => {
                self.model.told(&what, refusal.as_deref(), took.as_secs_f64());
                // Whoever looks has ended only if this program has.
                let _ = self.nudge.send(());
            }
        }
    }

    /// Over a connection of its own: a restart takes as long as it takes.
    fn say(&self, order: Order) {
        let (at, said) = (self.at.clone(), self.said.clone());
        std::thread::spawn(move || {
            let began = Instant::now();
            let question = Question { line: order.line, until: Until::Verdict, json: false };
            let refusal = match connect(at).and_then(|pool| question.ask(&pool)) {
                Ok(answer) => answer.refusal,
                Err(problem) => Some(problem),
            };
            // Nobody waits for it any more if this fails.
            let _ = said.send(News::Told { what: order.what, refusal, took: began.elapsed() });
        });
    }
}

/// Until nobody wants to know any more.
fn look_again_and_again(
    mut pool: Option<UnixStream>,
    delay: Duration,
    at: Option<AdminAt>,
    to: &Sender<News>,
    nudged: &Receiver<()>,
) {
    loop {
        let seen = match pool.take() {
            Some(pool) => Ok(pool),
            None => connect(at.clone()),
        };
        let news = match seen.and_then(|pool| Ok((admin::ask_for(&pool, "status")?, pool))) {
            Ok((status, connection)) => {
                pool = Some(connection);
                News::Seen(Box::new(status))
            }
            Err(why) => News::Lost(why),
        };
        if to.send(news).is_err() || nudged.recv_timeout(delay) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn key_of(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
