//! What goes on being told until another line is typed.

use super::answer::{Failure, Form};
use super::bounds::Held;
use super::lines::{Heard, Lines, Out};
use super::looking::{find, is_in};
use super::rights::Scope;
use crate::core::shell::Shell;
use crate::show::{self, Look};
use hatchery_pool::AppId;
use hatchery_protocol::events::PoolEvent;
use hatchery_protocol::status::OutputLine;
use serde::Serialize;
use std::rc::Rc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// What is told at once, in bytes, before somebody else is served.
const AT_ONCE: usize = 64 * 1024;

pub(super) struct Stream {
    /// What there is already.
    past: String,
    form: Form,
    live: Live,
}

enum Live {
    Events(Receiver<Rc<PoolEvent>>),
    Output {
        shell: Shell,
        app: AppId,
        scope: Scope,
        lines: Receiver<Rc<OutputLine>>,
    },
    /// Nothing comes any more.
    Over,
}

/// What came.
enum News {
    /// A data line.
    Line(String),
    /// So many of these did not.
    Lost(u64, &'static str),
    End,
}

pub(super) fn events(shell: &Shell, wanted: usize, form: Form) -> Stream {
    let state = shell.state();
    let live = Live::Events(state.events.subscribe());
    let past = state.events.recent(wanted).iter().map(|event| event_line(event, form)).collect();
    Stream { past, form, live }
}

/// What of an app's output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The last so many lines.
    pub(super) lines: usize,
    /// And all that come.
    pub(super) follow: bool,
    pub(super) form: Form,
}

/// # Errors
/// There is no such app.
pub(super) fn logs(shell: &Shell, scope: Scope, app: &str, wanted: Wanted) -> Result<Stream, Failure> {
    let Wanted { lines, follow, form } = wanted;
    let state = shell.state();
    let (_, app) = find(&state, scope, app)?;
    let live = match state.follow_output(app).filter(|_| follow) {
        Some(printed) => Live::Output { shell: shell.clone(), app, scope, lines: printed },
        None => Live::Over,
    };
    let past = state.output_lines(app, lines).iter().map(|line| output_line(line, form)).collect();
    Ok(Stream { past, form, live })
}

impl Stream {
    /// Bytes that are told first.
    pub(super) fn weight(&self) -> usize {
        self.past.len()
    }

    /// Tells until another line comes, which is returned; `None`: nobody is there any more. `held`: that weight.
    pub(super) async fn tell(mut self, lines: &mut Lines, out: &mut Out, held: Held) -> Option<Heard> {
        out.say(&std::mem::take(&mut self.past)).await.ok()?;
        drop(held);
        loop {
            let heard = tokio::select! {
                heard = lines.next() => Some(heard),
                news = self.next() => match news {
                    Some(text) => {
                        out.say(&text).await.ok()?;
                        None
                    }
                    None => {
                        out.say("ok\n").await.ok()?;
                        return Some(lines.next().await);
                    }
                },
            };
            if let Some(heard) = heard {
                out.say("ok\n").await.ok()?;
                return Some(heard);
            }
        }
    }

    /// What is there to be told, once something is; `None`: there never will be.
    async fn next(&mut self) -> Option<String> {
        let form = self.form;
        let mut news = self.live.wait(form).await;
        let mut text = String::new();
        loop {
            match news {
                News::Line(line) => text += &line,
                News::Lost(count, what) if form == Form::Lines => text += &format!("  ({count} {what} lost)\n"),
                // A gap in the numbers tells it.
                News::Lost(..) => {}
                News::End if text.is_empty() => return None,
                News::End => return Some(text),
            }
            match self.live.ready(form).filter(|_| text.len() < AT_ONCE) {
                Some(more) => news = more,
                None => return Some(text),
            }
        }
    }
}

impl Live {
    async fn wait(&mut self, form: Form) -> News {
        match self {
            Self::Events(events) => match events.recv().await {
                Ok(event) => News::Line(event_line(&event, form)),
                Err(RecvError::Lagged(lost)) => News::Lost(lost, "events"),
                Err(RecvError::Closed) => News::End,
            },
            Self::Output { shell, app, scope, lines } => match lines.recv().await {
                // It may run as somebody else since.
                Ok(_) | Err(RecvError::Lagged(_)) if !is_in(&shell.state(), *scope, *app) => News::End,
                Ok(line) => News::Line(output_line(&line, form)),
                Err(RecvError::Lagged(lost)) => News::Lost(lost, "lines"),
                Err(RecvError::Closed) => News::End,
            },
            Self::Over => News::End,
        }
    }

    /// What is there already.
    fn ready(&mut self, form: Form) -> Option<News> {
        match self {
            Self::Events(events) => Some(match events.try_recv() {
                Ok(event) => News::Line(event_line(&event, form)),
                Err(TryRecvError::Lagged(lost)) => News::Lost(lost, "events"),
                Err(TryRecvError::Closed) => News::End,
                Err(TryRecvError::Empty) => return None,
            }),
            Self::Output { lines, .. } => Some(match lines.try_recv() {
                Ok(line) => News::Line(output_line(&line, form)),
                Err(TryRecvError::Lagged(lost)) => News::Lost(lost, "lines"),
                Err(TryRecvError::Closed) => News::End,
                Err(TryRecvError::Empty) => return None,
            }),
            Self::Over => Some(News::End),
        }
    }
}

fn event_line(event: &PoolEvent, form: Form) -> String {
    match form {
        Form::Lines => data_line(&show::event(event, Look::PLAIN)),
        Form::Json => json_line(event),
    }
}

fn output_line(line: &OutputLine, form: Form) -> String {
    match form {
        Form::Lines => data_line(&show::output(line, Look::PLAIN)),
        Form::Json => json_line(line),
    }
}

/// One, whatever the text holds.
fn data_line(text: &str) -> String {
    format!("  {}\n", text.replace('\n', " "))
}

fn json_line(value: &impl Serialize) -> String {
    // These are structs of texts and numbers, which are always JSON.
    format!("  {}\n", serde_json::json!(value))
}
