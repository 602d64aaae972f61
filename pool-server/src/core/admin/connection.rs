//! One connection: a line, its answer, and the next line.

use super::answer::{Failure, Form, Said};
use super::bounds::{Held, Place};
use super::command::{self, Command};
use super::lines::{Heard, LONGEST_LINE, Lines, Out};
use super::rights::{Needs, Rights};
use super::streams::{self, Stream};
use super::{looking, orders, settings};
use crate::core::output::printable;
use crate::core::shell::Shell;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// What is worked on for less than this needs no pause.
const SHORT: Duration = Duration::from_millis(1);
/// How much of a command the log has, in characters.
const LOGGED: usize = 200;
/// Why there is no answer, though there could be one.
const TOO_MUCH: &str = "too many answers wait to be read by those who asked for them; try again later";

pub(super) struct Connection {
    pub(super) shell: Shell,
    pub(super) rights: Rights,
    /// It is taken as long as the connection lasts.
    pub(super) place: Place,
}

enum Reply {
    Nothing,
    Text(String),
    /// The connection ends with it.
    Last(String),
    Stream(Stream, Held),
}

impl Connection {
    pub(super) async fn talk(self, stream: UnixStream) {
        let (read, write) = stream.into_split();
        let (mut lines, mut out) = (Lines::new(read), Out(write));
        let mut heard = lines.next().await;
        loop {
            let line = match heard {
                Heard::Line(line) => line,
                Heard::End => return,
                Heard::TooLong => {
                    let text = format!("error: a line is longer than {LONGEST_LINE} bytes; the connection is closed\n");
                    // Whether it is heard or not: this is the end.
                    let _ = out.say(&text).await;
                    return;
                }
            };
            heard = match self.reply(&String::from_utf8_lossy(&line)).await {
                Reply::Nothing => lines.next().await,
                Reply::Text(text) => match self.say(&mut out, text).await {
                    Ok(()) => lines.next().await,
                    Err(_) => return,
                },
                Reply::Last(text) => {
                    let _ = out.say(&text).await;
                    return;
                }
                Reply::Stream(stream, held) => match stream.tell(&mut lines, &mut out, held).await {
                    Some(heard) => heard,
                    None => return,
                },
            };
            // However much was typed at once, others are served in between.
            tokio::task::yield_now().await;
        }
    }

    async fn say(&self, out: &mut Out, text: String) -> std::io::Result<()> {
        match self.place.hold(text.len()) {
            Some(_held) => out.say(&text).await,
            None => {
                let form = if text.starts_with('{') { Form::Json } else { Form::Lines };
                drop(text);
                out.say(&form.write(Err(TOO_MUCH.into()))).await
            }
        }
    }

    async fn reply(&self, line: &str) -> Reply {
        let Some((form, command)) = command::read(line) else { return Reply::Nothing };
        let command = match command {
            Ok(command) => command,
            Err(failure) => return Reply::Text(form.write(Err(failure))),
        };
        match command {
            Command::Quit => Reply::Last(form.write(Ok(Said::default()))),
            Command::Events(..) | Command::Logs { .. } if form == Form::Lines => match self.stream(&command) {
                Ok(stream) => match self.place.hold(stream.weight()) {
                    Some(held) => Reply::Stream(stream, held),
                    None => Reply::Text(form.write(Err(TOO_MUCH.into()))),
                },
                Err(failure) => Reply::Text(form.write(Err(failure))),
            },
            command => Reply::Text(form.write(self.obey_in_turn(&command, form, line).await)),
        }
    }

    fn stream(&self, command: &Command<'_>) -> Result<Stream, Failure> {
        let scope = self.rights.may(command.needs())?;
        match *command {
            Command::Events(wanted, form) => Ok(streams::events(&self.shell, wanted, form)),
            Command::Logs { app, wanted, follow, form } => {
                streams::logs(&self.shell, scope, app, streams::Wanted { lines: wanted, follow, form })
            }
            _ => Err("this is told at once".into()),
        }
    }

    /// Users with few rights take turns, and pause for as long as they kept the core busy: what they ask is answered
    /// by the same thread as every request.
    async fn obey_in_turn(&self, command: &Command<'_>, form: Form, line: &str) -> Result<Said, Failure> {
        let looks = matches!(command.needs(), Needs::Look | Needs::Logs | Needs::Read);
        let turn = match self.place.turn().filter(|_| looks) {
            // It is never closed.
            Some(turn) => turn.acquire().await.ok(),
            None => None,
        };
        let began = Instant::now();
        let answer = self.obey(command, form, line).await;
        let took = began.elapsed();
        if turn.is_some() && took > SHORT {
            tokio::time::sleep(took).await;
        }
        answer
    }

    /// The one place where rights are asked for, together with [`Self::stream`].
    async fn obey(&self, command: &Command<'_>, form: Form, line: &str) -> Result<Said, Failure> {
        let (shell, needs) = (&self.shell, command.needs());
        let scope = self.rights.may(needs)?;
        if matches!(needs, Needs::Restart | Needs::Change) {
            let said: String = printable(line.trim()).chars().take(LOGGED).collect();
            match self.rights.uid() {
                Some(uid) => tracing::info!("user {uid} says: {said}"),
                None => tracing::info!("the front end says: {said}"),
            }
        }
        match command {
            Command::Help => Ok(looking::help()),
            Command::Status(app) => looking::status(shell, scope, *app, form),
            Command::List => looking::list(shell, scope, form),
            Command::Sessions(app) => looking::sessions(shell, scope, *app, form),
            Command::Metrics => looking::metrics(shell, form),
            Command::RecentEvents(wanted) => Ok(looking::events(shell, *wanted)),
            Command::Logs { app, wanted, .. } => looking::logs(shell, scope, app, *wanted),
            Command::Get { app, key } => settings::get(shell, scope, *app, *key),
            Command::Set { app, key, value } => settings::set(shell, scope, *app, key, value).await,
            Command::Restart(app, mode) => orders::restart(shell, scope, app, *mode).await,
            Command::Order(order, app) => orders::order(shell, scope, app, *order).await,
            Command::Disable(app, why) => orders::disable(shell, scope, app, why.clone()).await,
            Command::Add(root, settings) => orders::add(shell, root, settings).await,
            Command::Retire(worker) => orders::retire(shell, worker).await,
            Command::End(session) => orders::end(shell, session).await,
            Command::Clear => orders::clear(shell).await,
            Command::Reload => orders::reload(shell).await,
            Command::Shutdown => {
                shell.told_to_shut_down();
                Ok(Said::default())
            }
            // Both were obeyed before.
            Command::Quit | Command::Events(..) => Ok(Said::default()),
        }
    }
}
