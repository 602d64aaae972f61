//! What happens in a pool.

use super::{print_lines, stream, terminal};
use crate::admin;
use crate::cli::AdminAt;
use crate::orders::connect;
use clap::Args;
use hatchery_pool_server::show::{self, printable};
use hatchery_protocol::events::PoolEvent;
use serde_json::Value;

/// How many of those before are shown where it is not said.
const LATELY: u32 = 100;
const BEFORE: u32 = 10;

#[derive(Args, Debug)]
pub(crate) struct Events {
    /// How many of the last ones [default: 100; with -f, 10]
    #[arg(short = 'n', long = "lines", value_name = "N")]
    number: Option<u32>,

    /// Go on with those that come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Events, at: Option<AdminAt>) -> Result<(), String> {
    let pool = connect(at)?;
    let line = options.line();
    if options.follow {
        let mut last = None;
        return stream::follow(&pool, &line, |data| one_more(data, options.json, &mut last));
    }
    let answer = admin::ask_json(&pool, &line)?;
    let events = answer.get("events").and_then(Value::as_array).ok_or("the pool's answer has no `events`")?;
    print_lines(&events.iter().map(|event| one(event.clone(), options.json)).collect::<Vec<_>>())
}

impl Events {
    fn line(&self) -> String {
        match self.follow {
            true => format!("events json {}", self.number.unwrap_or(BEFORE)),
            false => format!("events {}", self.number.unwrap_or(LATELY)),
        }
    }
}

/// A line of the stream, with a word on what is missing before it.
fn one_more(data: &str, json: bool, last: &mut Option<u64>) -> String {
    let Ok(event) = serde_json::from_str::<Value>(data) else { return printable(data) };
    let number = event["number"].as_u64();
    let lost = number.zip(*last).map_or(0, |(number, last)| number.saturating_sub(last + 1));
    *last = number.or(*last);
    match one(event, json) {
        line if lost > 0 && !json => format!("({lost} events lost)\n{line}"),
        line => line,
    }
}

/// What is of another version can't be drawn, but shown as it came.
fn one(event: Value, json: bool) -> String {
    if json {
        return event.to_string();
    }
    let as_it_came = printable(&event.to_string());
    serde_json::from_value::<PoolEvent>(event).map_or(as_it_came, |event| show::event(&event, terminal::look()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_ones_are_asked_for_or_the_stream() {
        let line = |number, follow| Events { number, follow, json: false }.line();
        assert_eq!((line(None, false), line(Some(5), false)), ("events 100".into(), "events 5".into()));
        assert_eq!((line(None, true), line(Some(0), true)), ("events json 10".into(), "events json 0".into()));
    }

    #[test]
    fn what_is_lost_is_told_and_what_is_unknown_is_shown_as_it_came() {
        let mut last = None;
        let event = |number| format!("{{\"number\":{number},\"event\":\"of_tomorrow\"}}");
        assert_eq!(one_more(&event(7), false, &mut last), event(7));
        assert_eq!(one_more(&event(8), false, &mut last), event(8));
        assert_eq!(one_more(&event(12), false, &mut last), format!("(3 events lost)\n{}", event(12)));
        assert_eq!(one_more(&event(20), true, &mut last), event(20), "in JSON the gap tells");
        assert_eq!(one_more("(2 events\u{1b} lost)", false, &mut last), "(2 events\\u{1b} lost)");
    }
}
