//! Command lines that were written for a shell.

use crate::environment;
use std::iter::Peekable;
use std::str::Chars;

/// What a line comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One program, with the variables that stand before it. `$PORT` is `{port}`.
    Words(Words),
    /// It takes a shell.
    Shell,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) env: Vec<(String, String)>,
    pub(super) words: Vec<String>,
    /// Variables that stand there, and are Hatchery's to set.
    pub(super) dropped: Vec<String>,
}

/// How a variable is written whose value is the port.
const PORT: &str = "{port}";

/// `None`: a quote has no end, or there are no words.
pub(super) fn line(text: &str) -> Option<Line> {
    match filled(text) {
        Some(text) => with_variables(shell_words::split(&text).ok()?),
        // A quote without its end is no matter for a shell either.
        None => shell_words::split(text).ok().map(|_| Line::Shell),
    }
}

/// Words of which the first may set variables. `None`: there are no others.
pub(super) fn with_variables(words: Vec<String>) -> Option<Line> {
    let mut found = Words::default();
    for word in words {
        match word.split_once('=').filter(|(name, _)| found.words.is_empty() && is_name(name)) {
            // The port is not known when variables are set.
            Some((_, value)) if value.contains(PORT) => return Some(Line::Shell),
            Some((name, value)) => match environment::check(name.as_bytes(), value.as_bytes()) {
                Ok(()) => {
                    found.env.retain(|(known, _)| known != name);
                    found.env.push((name.into(), value.into()));
                }
                Err(_) => found.dropped.push(name.into()),
            },
            None => found.words.push(word),
        }
    }
    if found.words.is_empty() { None } else { Some(Line::Words(found)) }
}

fn is_name(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && word.chars().all(inner)
}

/// The line with `{port}` for `$PORT`. `None`: something in it is for a shell to understand.
fn filled(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\'', None) | ('"', None) => quote = Some(c),
            (end, Some(begin)) if end == begin => quote = None,
            ('\\', None | Some('"')) => {
                out.push(c);
                out.extend(characters.next());
                continue;
            }
            ('$', None | Some('"')) => {
                is_port(&mut characters).then(|| out.push_str(PORT))?;
                continue;
            }
            ('`', None | Some('"')) => return None,
            (';' | '&' | '|' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '~' | '#' | '\n', None) => return None,
            _ => {}
        }
        out.push(c);
    }
    Some(out)
}

/// Whether `PORT`, `{PORT}` or `{PORT:-5000}` follows; it is taken.
fn is_port(characters: &mut Peekable<Chars<'_>>) -> bool {
    let braces = characters.next_if_eq(&'{').is_some();
    let inner = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let mut name = String::new();
    while let Some(c) = characters.next_if(inner) {
        name.push(c);
    }
    if !braces {
        return name == "PORT";
    }
    let rest: String = characters.take_while(|c| *c != '}').collect();
    name == "PORT" && (rest.is_empty() || rest.starts_with(":-") || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> (Vec<String>, Vec<String>) {
        match line(text) {
            Some(Line::Words(found)) => {
                (found.env.iter().map(|(name, value)| format!("{name}={value}")).collect(), found.words)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_split_as_a_shell_does_and_the_port_is_a_placeholder() {
        for (text, env, expected) in [
            ("gunicorn shop.wsgi", &[][..], &["gunicorn", "shop.wsgi"][..]),
            ("a -b 0.0.0.0:$PORT", &[], &["a", "-b", "0.0.0.0:{port}"]),
            ("a \"${PORT}\" ${PORT:-5000}", &[], &["a", "{port}", "{port}"]),
            ("a '$PORT' \\$PORT", &[], &["a", "$PORT", "$PORT"]),
            ("A=1 B='2 3' run A=4", &["A=1", "B=2 3"], &["run", "A=4"]),
            ("A=1 A=2 run", &["A=2"], &["run"]),
            ("run 'a;b' \"c & d\" e\\;f", &[], &["run", "a;b", "c & d", "e;f"]),
        ] {
            let (found_env, found) = words(text);
            assert_eq!(
                (found_env, found),
                (env.iter().map(|e| (*e).into()).collect(), expected.iter().map(|e| (*e).into()).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_takes_a_shell_is_left_to_one() {
        for text in [
            "a && b",
            "a | b",
            "a; b",
            "a > b",
            "$(a)",
            "`a`",
            "a $HOME",
            "a ${PORTS}",
            "a ${PORT+x}",
            "a *.py",
            "a ~/b",
            "(a)",
            "a \"$HOME\"",
            "B=$PORT a",
            "a $",
            "a # b",
        ] {
            assert_eq!(line(text), Some(Line::Shell), "{text}");
        }
    }

    #[test]
    fn what_is_no_command_is_none() {
        for text in ["", "  ", "'a", "A=1", "a \"b"] {
            assert_eq!(line(text), None, "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_the_apps_to_set_is_dropped_and_told() {
        let Some(Line::Words(found)) = line("PORT=5 LISTEN_FDS=1 A=1 run") else { panic!("no words") };
        assert_eq!((found.env.len(), found.words.len()), (1, 1));
        assert_eq!(found.dropped, ["PORT", "LISTEN_FDS"]);
    }
}
