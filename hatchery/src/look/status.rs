//! What a live pool does; once, or again and again.

use super::terminal::{self, Ends, Pause};
use crate::admin::{self, Trouble};
use crate::cli::AdminAt;
use crate::orders::{APP, connect, word};
use crate::print;
use clap::Args;
use hatchery_pool_server::show;
use hatchery_protocol::units;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// To the upper left; from where the cursor is to the end of the line, and of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Only this application: its root, or the last part of that
    app: Option<String>,

    /// Print one JSON object; with --watch, one a line
    #[arg(long)]
    json: bool,

    /// Show it again every so often, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = period)]
    watch: Option<Duration>,
}

fn period(text: &str) -> Result<Duration, String> {
    match units::time(text)? {
        Some(period) if period >= Duration::from_millis(100) => Ok(period),
        _ => Err("between two reports there are at least 100ms".to_owned()),
    }
}

pub(super) fn run(options: &Status, at: Option<AdminAt>) -> Result<(), String> {
    let pool = connect(at.clone())?;
    match options.watch {
        Some(period) => watch(options, period, pool, at),
        None => print(&options.report(&pool)?),
    }
}

impl Status {
    fn line(&self) -> Result<String, String> {
        match &self.app {
            Some(app) => Ok(format!("status {}", word(APP, app)?)),
            None => Ok("status".to_owned()),
        }
    }

    fn report(&self, pool: &UnixStream) -> Result<String, Trouble> {
        let line = self.line().map_err(Trouble::Refused)?;
        if self.json {
            let answer = admin::ask_json(pool, &line)?;
            let text = if self.watch.is_some() {
                serde_json::to_string(&answer)
            } else {
                serde_json::to_string_pretty(&answer)
            };
            return text.map(|text| text + "\n").map_err(|error| Trouble::Unread(error.to_string()));
        }
        match admin::ask_for(pool, &line) {
            Ok(status) => Ok(show::status(&status, terminal::look()).iter().map(|line| format!("{line}\n")).collect()),
            // Of another version, most likely: it knows how to draw what it says.
            Err(Trouble::Unread(_)) => admin::ask(pool, &line).map_err(Trouble::Refused),
            Err(trouble) => Err(trouble),
        }
    }
}

/// A pool that goes may come back; one that refuses has said its last word.
fn watch(options: &Status, period: Duration, pool: UnixStream, at: Option<AdminAt>) -> Result<(), String> {
    let ends = Ends::heard()?;
    let mut screen = Screen::new(options.json);
    let mut pool = Some(pool);
    let mut gone: Option<(Instant, String)> = None;
    loop {
        if pool.is_none() {
            pool = connect(at.clone()).ok();
        }
        let shown = match pool.as_ref().map(|pool| options.report(pool)) {
            Some(Ok(report)) => {
                gone = None;
                report
            }
            Some(Err(Trouble::Silent(why))) => {
                pool = None;
                let (since, why) = gone.get_or_insert((Instant::now(), why));
                absence(options.json, why, since.elapsed())
            }
            Some(Err(trouble)) => return Err(trouble.into()),
            None => {
                let (since, why) = gone.get_or_insert_with(|| (Instant::now(), "the pool is gone".to_owned()));
                absence(options.json, why, since.elapsed())
            }
        };
        if !screen.show(&shown)? || ends.pause(period)? == Pause::Ended {
            return Ok(());
        }
    }
}

fn absence(json: bool, why: &str, since: Duration) -> String {
    let since = since.as_secs_f64();
    if json {
        return json!({ "error": why, "gone_s": since }).to_string() + "\n";
    }
    format!("{why}; waiting for {} until it is back\n", show::span(since))
}

/// Where reports go, one after the other, or one in the place of the other.
struct Screen {
    redrawn: bool,
    separated: bool,
    first: bool,
}

impl Screen {
    fn new(json: bool) -> Self {
        Self { redrawn: std::io::stdout().is_terminal() && !json, separated: !json, first: true }
    }

    /// `false`: nobody reads any more.
    fn show(&mut self, report: &str) -> Result<bool, String> {
        let text = match (self.redrawn, self.first) {
            (true, first) => {
                let (clear, lines) =
                    (if first { REST_OF_SCREEN } else { "" }, terminal::size().map(|(_, lines)| lines));
                format!("{HOME}{clear}{}", frame(report, lines))
            }
            (false, false) if self.separated => format!("\n{report}"),
            (false, _) => report.to_owned(),
        };
        self.first = false;
        let mut output = std::io::stdout();
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// As much of a report as there are lines for, over what stood there.
fn frame(report: &str, height: Option<usize>) -> String {
    let lines: Vec<&str> = report.lines().collect();
    // The last is for the cursor, and the one before it for what does not fit.
    let room = height.map_or(lines.len(), |height| height.saturating_sub(1));
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    let mut text: String = lines[..shown].iter().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
    if shown < lines.len() {
        text += &format!("… {} more lines (hatchery top scrolls){REST_OF_LINE}\n", lines.len() - shown);
    }
    text + REST_OF_SCREEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn options(app: Option<&str>, json: bool, watch: Option<Duration>) -> Status {
        Status { app: app.map(str::to_owned), json, watch }
    }

    #[test]
    fn json_is_printed_for_people_too_and_a_line_each_when_watched() {
        let pool = || admin::pool_that_said("{\"ok\":true,\"version\":\"1\",\"max\":6,\"apps\":[]}\n");
        let once = options(None, true, None).report(&pool()).unwrap();
        assert_eq!(once, "{\n  \"version\": \"1\",\n  \"max\": 6,\n  \"apps\": []\n}\n");
        let watched = options(None, true, Some(Duration::from_secs(1))).report(&pool()).unwrap();
        assert_eq!(watched, "{\"version\":\"1\",\"max\":6,\"apps\":[]}\n");
    }

    #[test]
    fn a_pool_of_another_version_draws_itself() {
        let (ours, pools) = UnixStream::pair().unwrap();
        let pool = std::thread::spawn(move || {
            let mut asked = BufReader::new(&pools);
            for answer in ["{\"ok\":true,\"version\":\"9\"}\n", "  hatchery 9: all is well\nok\n"] {
                asked.read_line(&mut String::new()).unwrap();
                (&pools).write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(options(Some("shop"), false, None).report(&ours).unwrap(), "hatchery 9: all is well\n");
        pool.join().unwrap();
        let pool = admin::pool_that_said("{\"ok\":false,\"error\":\"no application 'x'\"}\n");
        assert!(matches!(options(Some("x"), false, None).report(&pool), Err(Trouble::Refused(_))));
        assert!(matches!(options(None, false, None).report(&admin::pool_that_said("")), Err(Trouble::Silent(_))));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(frame("a\nb\n", Some(24)), "a\x1b[K\nb\x1b[K\n\x1b[J");
        let cut = frame("a\nb\nc\nd\n", Some(4));
        assert_eq!(cut.matches('\n').count(), 3, "{cut}");
        assert!(cut.contains("a\x1b[K\nb\x1b[K\n… 2 more lines"), "{cut}");
        assert!(frame("a\n", None).contains("a\x1b[K\n"));
        frame("a\nb\n", Some(0));
    }

    #[test]
    fn reports_are_not_too_often() {
        assert_eq!(period("2"), Ok(Duration::from_secs(2)));
        assert!(period("never").is_err() && period("10ms").is_err() && period("soon").is_err());
    }
}
