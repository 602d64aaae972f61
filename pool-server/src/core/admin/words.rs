//! The words of a line. One that begins with `"` goes to the next `"` and may have blanks in it, and so may what stands
//! behind the `=` of a `KEY="VALUE"`. There is nothing else to know: no `\`, and `'` is a letter.

use super::answer::Failure;

/// The first word, without its quotes, and what follows it; `None`: there is none.
///
/// # Errors
/// A quote that opens and does not close.
pub(super) fn first(line: &str) -> Result<Option<(&str, &str)>, Failure> {
    let line = line.trim_start();
    if line.is_empty() {
        return Ok(None);
    }
    if let Some(quoted) = line.strip_prefix('"') {
        let (word, rest) = closed(quoted)?;
        return Ok(Some((word, rest)));
    }
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    let Some(at) = line[..end].find("=\"") else { return Ok(Some(line.split_at(end))) };
    let (value, rest) = closed(&line[at + 2..])?;
    Ok(Some((&line[..at + 2 + value.len() + 1], rest)))
}

/// All of them.
///
/// # Errors
/// As above.
pub(super) fn all(mut line: &str) -> Result<Vec<&str>, Failure> {
    let mut words = Vec::new();
    while let Some((word, rest)) = first(line)? {
        words.push(word);
        line = rest;
    }
    Ok(words)
}

/// What stands behind the `=` of a word, without its quotes.
pub(super) fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// What stands before the closing quote, and what follows that.
fn closed(quoted: &str) -> Result<(&str, &str), Failure> {
    match quoted.split_once('"') {
        Some((word, rest)) if rest.is_empty() || rest.starts_with(char::is_whitespace) => Ok((word, rest)),
        Some(_) => Err("a \" closes within a word: put one at its beginning and one at its end".into()),
        None => Err("a \" opens and does not close: put another at the end of what belongs together".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_together_what_has_blanks() {
        for (line, words) in [
            ("  restart\tshop  kill ", vec!["restart", "shop", "kill"]),
            ("restart \"my shop\" kill", vec!["restart", "my shop", "kill"]),
            (
                "add \"/srv/my shop\" min=1 watch_ignore=\"a b\"",
                vec!["add", "/srv/my shop", "min=1", "watch_ignore=\"a b\""],
            ),
            ("disable shop it's moved", vec!["disable", "shop", "it's", "moved"]),
            ("stop \"\"", vec!["stop", ""]),
            ("stop a\"b", vec!["stop", "a\"b"]),
            ("", vec![]),
        ] {
            assert_eq!(all(line).unwrap(), words, "{line}");
        }
        for (value, bare) in [("\"a b\"", "a b"), ("a", "a"), ("\"", "\""), ("\"\"", "")] {
            assert_eq!(unquoted(value), bare);
        }
    }

    #[test]
    fn a_quote_that_makes_no_sense_is_told() {
        for line in ["stop \"shop", "add /srv min=\"1", "stop \"shop\"s"] {
            assert!(all(line).unwrap_err().why.starts_with("a \" "), "{line}");
        }
    }
}
