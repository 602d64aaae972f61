//! What the last words of a process say of why it ended: the frequent causes, as the usual interpreters and shells
//! word them. Each rule looks at one line at the end of the output of a start that failed, and says nothing unless it
//! is sure.

mod rules;

use super::reports::Cause;
use hatchery_protocol::link::{Listen, Place};
use hatchery_protocol::report::{Exit, Setup};
use rules::RULES;

pub(super) use rules::own_address;

/// Lines of an end of output that are looked at, without those that belong to one above them.
const LINES: usize = 12;
/// What is quoted of a line, in characters.
const LONGEST_QUOTE: usize = 300;

/// What a process left behind.
#[derive(Clone, Copy)]
pub(super) struct Last<'a> {
    /// Safe to print, without empty lines.
    pub(super) output: &'a str,
    pub(super) exit: Exit,
    pub(super) listen: Listen,
    pub(super) setup: &'a Setup,
}

/// One line, with all that was printed before it and after it.
#[derive(Clone, Copy)]
struct Line<'a> {
    last: &'a Last<'a>,
    text: &'a str,
    before: &'a [&'a str],
    after: &'a [&'a str],
}

/// What it ended of, if its output says so in known words.
pub(super) fn cause(last: &Last<'_>) -> Option<Cause> {
    if last.exit == Exit::Status(0) {
        return None;
    }
    let lines: Vec<&str> = last.output.lines().collect();
    let telling = (0..lines.len()).rev().filter(|at| tells(lines[*at])).take(LINES).enumerate();
    let looked_at = telling.map(|(distance, at)| {
        let line = Line { last, text: lines[at].trim_end(), before: &lines[..at], after: &lines[at + 1..] };
        (distance, line)
    });
    // A signal is the end of a program that could say no more; only of memory the last words are known.
    let by_signal = matches!(last.exit, Exit::Signal(_));
    let rules = RULES.iter().filter(|rule| !by_signal || rule.of_signals);
    looked_at
        .flat_map(|(distance, line)| {
            rules.clone().filter(move |rule| distance < rule.within).map(move |rule| (rule, line))
        })
        .find_map(|(rule, line)| (rule.says)(&line))
}

/// The line in which a server says that it listens at an address that is not the one it was given (`place`, where it
/// was to make its own).
pub(super) fn elsewhere(output: &str, place: Option<&Place>) -> Option<String> {
    const LISTENS: [&str; 7] =
        ["listening", "listen on", "running on", "running at", "serving", "server started", "started server"];
    const ADDRESSES: [&str; 7] = ["http://", "https://", "port ", "0.0.0.0:", "127.0.0.1:", "localhost:", "[::]:"];
    let given = match place {
        Some(Place::Port(port)) => Some(port.to_string()),
        Some(Place::Path(_)) | None => None,
    };
    let says = |line: &&str| {
        let text = line.to_ascii_lowercase();
        let at = ADDRESSES.iter().filter_map(|address| text.split_once(address));
        let has_port = |rest: &str| rest.split([' ', '/', ',']).next().is_some_and(|word| word.ends_with(is_digit));
        LISTENS.iter().any(|words| text.contains(words))
            && at.map(|(_, rest)| rest).any(has_port)
            && given.as_ref().is_none_or(|given| !text.contains(given.as_str()))
    };
    output.lines().rev().take(LINES).find(says).map(|line| quoted(line.trim_start_matches([' ', '*'])))
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

/// Whether a line is not a part of what another one tells: the frames of a trace, the source, an object printed with
/// an error.
fn tells(line: &str) -> bool {
    const SEQUELS: [&str; 7] =
        ["Node.js v", "npm ERR!", "npm error", "Emitted 'error' event", "Require stack:", "- /", "{"];
    !line.starts_with([' ', '\t', '}', '^']) && !SEQUELS.iter().any(|sequel| line.starts_with(sequel))
}

impl Line<'_> {
    /// The line, as far as one wants to read it.
    fn quoted(&self) -> String {
        quoted(self.text)
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What stands in `text` between the first `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    let (found, _) = rest.split_once(end)?;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests;
