//! What a worker says about a request on its standard error, where that comes with the answer: lines of the log.

use std::path::PathBuf;
use std::sync::Arc;

/// A longer line is several.
const LONGEST: usize = 8 * 1024;

/// The lines of one request.
#[derive(Debug)]
pub(crate) struct Lines {
    root: Arc<PathBuf>,
    pid: i32,
    /// The beginning of one.
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(root: Arc<PathBuf>, pid: i32) -> Self {
        Self { root, pid, begun: Vec::new() }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() > LONGEST {
                self.end();
            }
        }
    }

    /// What was begun is a line.
    pub(crate) fn end(&mut self) {
        let line = std::mem::take(&mut self.begun);
        let line = line.trim_ascii();
        if !line.is_empty() {
            self.say(&printable(line));
        }
    }

    pub(crate) fn say(&self, line: &str) {
        tracing::warn!(app = %self.root.display(), pid = self.pid, "{line}");
    }
}

/// Without what would move the cursor of whoever reads the log.
fn printable(line: &[u8]) -> String {
    let shown = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(line).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_when_it_is_whole_and_holds_no_controls() {
        let mut lines = Lines::new(Arc::default(), 1);
        lines.take(b"one\ntw");
        assert_eq!(lines.begun, b"tw");
        lines.take(b"o\nthree");
        assert_eq!(lines.begun, b"three");
        lines.end();
        assert!(lines.begun.is_empty());
        assert_eq!(printable(b"\x1b[31mred\tand \xff"), "\u{fffd}[31mred\tand \u{fffd}");
    }

    #[test]
    fn a_line_without_an_end_takes_no_room() {
        let mut lines = Lines::new(Arc::default(), 1);
        (0..100).for_each(|_| lines.take(&[b'x'; 1000]));
        assert!(lines.begun.len() <= LONGEST + 1000);
    }
}
