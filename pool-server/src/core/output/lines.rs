//! Bytes cut into lines, and the last of them kept.

pub(crate) use crate::show::printable;
pub(super) use crate::show::push_printable;

use std::collections::VecDeque;
use std::io::BufRead;

/// A longer line is passed on in pieces of this many bytes.
pub(super) const LONGEST_LINE: usize = 8 * 1024;
/// What is kept of a worker's output, in bytes.
const KEPT: usize = 16 * 1024;

/// One stream: what was read of it and is not passed on yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where in `buffer` the next line begins.
    start: usize,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line without its end, or the next piece of one that is too long.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let rest = &self.buffer[self.start..];
        let (len, with_end) = match line_end(&rest[..rest.len().min(LONGEST_LINE + 1)]) {
            Some(end) => (end, end + 1),
            None if rest.len() > LONGEST_LINE => {
                let cut = whole_characters(&rest[..LONGEST_LINE]);
                (cut, cut)
            }
            None => {
                // What a flood once needed is not held for ever.
                if rest.is_empty() {
                    self.buffer.clear();
                    self.start = 0;
                    self.buffer.shrink_to(LONGEST_LINE);
                }
                return None;
            }
        };
        let line = &self.buffer[self.start..self.start + len];
        self.start += with_end;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// What has no end yet.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// Where the first line ends.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    // The standard library's own search, a word at a time.
    let with_end = { bytes }.skip_until(b'\n').ok()?;
    (with_end > 0 && bytes[with_end - 1] == b'\n').then(|| with_end - 1)
}

/// Whole lines, without their ends.
pub(super) fn each_line(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = line_end(lines)?;
        let line = &lines[..end];
        lines = &lines[end + 1..];
        Some(line)
    })
}

/// How much of `bytes` there is without a character that is cut at their end.
fn whole_characters(bytes: &[u8]) -> usize {
    let is_inside = |byte: u8| byte & 0xC0 == 0x80;
    let inside = bytes.iter().rev().take(3).take_while(|byte| is_inside(**byte)).count();
    match bytes.len().checked_sub(inside + 1).map(|first| (first, bytes[first])) {
        Some((first, lead)) if lead >= 0xC0 && (lead.leading_ones() as usize) > inside + 1 => first,
        _ => bytes.len(),
    }
}

/// The last lines of both streams of a worker, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, line: &[u8]) {
        self.0.extend(&line[line.len().saturating_sub(KEPT)..]);
        self.0.push_back(b'\n');
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    /// As text that is safe to print, with what has no end yet.
    pub(super) fn text<'a>(&self, unfinished: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut bytes: Vec<u8> = self.0.iter().copied().collect();
        for rest in unfinished {
            bytes.extend_from_slice(rest);
            bytes.push(b'\n');
        }
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| !line.is_empty()).map(printable).collect::<Vec<_>>().join("\n")
    }
}

/// The end of a text: at most so many lines, and so many bytes.
pub(crate) fn last_of(text: &str, lines: usize, bytes: usize) -> &str {
    let start = text.rmatch_indices('\n').nth(lines - 1).map_or(0, |(at, _)| at + 1);
    end_of(&text[start..], bytes)
}

/// At most so many bytes of its end, in whole characters.
pub(super) fn end_of(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next().map(|line| String::from_utf8_lossy(line).into_owned())).collect()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let text = "one\r\n\ntwo is longer\nthr\u{e9}\u{e9}\nrest".as_bytes();
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                lines.push(piece);
                found.append(&mut all(&mut lines));
            }
            assert_eq!(found, ["one", "", "two is longer", "thr\u{e9}\u{e9}"], "in pieces of {size}");
            assert_eq!(lines.unfinished(), b"rest");
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut_between_two_characters_and_never_kept_whole() {
        let mut lines = Lines::default();
        let text = format!("x{}", "\u{20ac}".repeat(10_000));
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(1000) {
            lines.push(piece);
            found.append(&mut all(&mut lines));
            assert!(lines.unfinished().len() <= LONGEST_LINE);
        }
        assert!(found.iter().all(|piece| piece.len() > LONGEST_LINE - 4 && piece.len() <= LONGEST_LINE));
        let rest = String::from_utf8(lines.unfinished().to_vec()).unwrap();
        assert_eq!(found.concat() + &rest, text);
        // What is no text at all is cut where it comes to lie.
        lines.push(&[0x80; 3 * LONGEST_LINE]);
        assert!(all(&mut lines).len() >= 2 && lines.unfinished().len() <= LONGEST_LINE);
    }

    #[test]
    fn the_end_of_a_line_is_found() {
        for (bytes, end) in [("", None), ("a", None), ("\n", Some(0)), ("ab\nc\n", Some(2))] {
            assert_eq!(line_end(bytes.as_bytes()), end, "{bytes:?}");
        }
        assert_eq!(each_line(b"a\n\nb\n").collect::<Vec<_>>(), [b"a".as_slice(), b"", b"b"]);
    }

    #[test]
    fn a_line_as_long_as_may_be_is_one_piece() {
        let mut lines = Lines::default();
        lines.push(&[b'a'; LONGEST_LINE]);
        assert!(lines.next().is_none());
        lines.push(b"\nb\n");
        assert_eq!(all(&mut lines), ["a".repeat(LONGEST_LINE), "b".into()]);
    }

    #[test]
    fn the_last_of_the_output_is_kept_and_no_more() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}").as_bytes());
        }
        tail.push(b"bell \x07");
        let text = tail.text([b"no end".as_slice(), b""]);
        assert!(text.ends_with("\nline 9999\nbell \\u{7}\nno end"), "{text}");
        assert!(text.len() <= KEPT + 32);
        tail.push(&[b'y'; 3 * KEPT]);
        assert!(tail.text([]).len() <= KEPT);
    }

    #[test]
    fn the_end_of_a_text_has_so_many_lines_and_bytes() {
        assert_eq!(last_of("a\nb\nc", 2, 100), "b\nc");
        assert_eq!(last_of("a\nb", 3, 100), "a\nb");
        assert_eq!(last_of("", 3, 100), "");
        assert_eq!(last_of("\u{20ac}\u{20ac}", 1, 4), "\u{20ac}");
    }
}
