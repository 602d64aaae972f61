//! What an application printed.

use super::{print_lines, stream, terminal};
use crate::admin;
use crate::cli::AdminAt;
use crate::orders::{APP, connect, word};
use clap::Args;
use hatchery_pool_server::show::{self, printable};
use hatchery_protocol::status::OutputLine;
use serde_json::Value;

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Its root, or the last part of that
    app: String,

    /// How many of the last lines
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 100)]
    number: u32,

    /// Go on with those that come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Logs, at: Option<AdminAt>) -> Result<(), String> {
    let line = options.line()?;
    let pool = connect(at)?;
    if options.follow {
        return stream::follow(&pool, &line, |data| one_of(data, options.json));
    }
    let answer = admin::ask_json(&pool, &line)?;
    let lines = answer.get("lines").and_then(Value::as_array).ok_or("the pool's answer has no `lines`")?;
    print_lines(&lines.iter().map(|line| one(line.clone(), options.json)).collect::<Vec<_>>())?;
    if let Some(file) = answer.get("file").and_then(Value::as_str).filter(|_| lines.len() < options.number as usize) {
        // Not among the lines: those are for whoever reads them.
        eprintln!("hatchery: what it printed before is in {}", printable(file));
    }
    Ok(())
}

impl Logs {
    fn line(&self) -> Result<String, String> {
        let rest = if self.follow { " follow json" } else { "" };
        Ok(format!("logs {} {}{rest}", word(APP, &self.app)?, self.number))
    }
}

fn one_of(data: &str, json: bool) -> String {
    serde_json::from_str(data).map_or_else(|_| printable(data), |line| one(line, json))
}

fn one(line: Value, json: bool) -> String {
    if json {
        return line.to_string();
    }
    let as_it_came = printable(&line.to_string());
    serde_json::from_value::<OutputLine>(line).map_or(as_it_came, |line| show::output(&line, terminal::look()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_asked_for_or_those_that_come_too() {
        let line = |app: &str, follow| Logs { app: app.into(), number: 20, follow, json: false }.line();
        assert_eq!(line("shop", false).unwrap(), "logs shop 20");
        assert_eq!(line("shop", true).unwrap(), "logs shop 20 follow json");
        assert_eq!(line("shop follow", false).unwrap(), "logs \"shop follow\" 20");
    }

    #[test]
    fn a_line_is_shown_with_its_process_and_stream() {
        let said = r#"{"number":3,"at":0.5,"pid":42,"stream":"stdout","line":"hello"}"#;
        assert_eq!(one_of(said, false), "1970-01-01T00:00:00.500Z 42 stdout: hello");
        assert_eq!(one_of(said, true), said);
        assert_eq!(one_of("(3 lines lost)", false), "(3 lines lost)");
    }
}
