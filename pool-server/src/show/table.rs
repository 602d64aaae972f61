//! Lines of styled words, and tables of them: aligned, cut to a width, coloured or plain.

use super::printable;
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How something looks, where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Head,
    Good,
    Busy,
    Warning,
    Bad,
    Faint,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Head => "1",
            Self::Good => "32",
            Self::Busy => "36",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }
}

/// For whom lines are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub colours: bool,
    /// Columns; what is longer is cut. `None`: nothing is.
    pub width: Option<usize>,
}

impl Look {
    /// For programs, files and pipes.
    pub const PLAIN: Self = Self { colours: false, width: None };
}

/// One line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    parts: Vec<(Style, String)>,
}

impl Line {
    pub(super) fn of(text: &str) -> Self {
        Self::default().then(Style::Plain, text)
    }

    /// Appends words; what they contain is made harmless.
    pub(super) fn then(mut self, style: Style, text: &str) -> Self {
        self.parts.push((style, one_line(text)));
        self
    }

    pub(super) fn draw(&self, look: Look) -> String {
        let whole: usize = self.parts.iter().map(|(_, text)| text.width()).sum();
        let mut room = look.width.filter(|width| whole > *width).map(|width| width.saturating_sub(1));
        let cut = room.is_some();
        let mut drawn = String::new();
        for (style, text) in &self.parts {
            let text = match &mut room {
                Some(left) => beginning(text, left),
                None => text,
            };
            match style.code() {
                _ if !look.colours || text.is_empty() => drawn.push_str(text),
                "" => drawn.push_str(text),
                code => {
                    let _ = write!(drawn, "\x1b[{code}m{text}\x1b[0m");
                }
            }
        }
        if cut {
            drawn.push('…');
        } else if self.parts.last().is_some_and(|(style, _)| !look.colours || style.code().is_empty()) {
            drawn.truncate(drawn.trim_end_matches(' ').len());
        }
        drawn
    }
}

/// A tab would be wider than it is counted, and what turns the direction of writing would move the words behind it.
fn one_line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    printable(text).replace('\t', " ").replace(turns, "\u{fffd}")
}

/// As much of a text as there is room for.
fn beginning<'a>(text: &'a str, room: &mut usize) -> &'a str {
    for (place, character) in text.char_indices() {
        let width = character.width().unwrap_or(0);
        if width > *room {
            *room = 0;
            return &text[..place];
        }
        *room -= width;
    }
    text
}

/// Where a column's words stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows of the same columns, two spaces between them.
#[derive(Debug)]
pub(super) struct Table<'a> {
    indent: &'a str,
    sides: Vec<Side>,
    rows: Vec<Vec<(Style, String)>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(indent: &'a str, sides: impl IntoIterator<Item = Side>) -> Self {
        Self { indent, sides: sides.into_iter().collect(), rows: Vec::new() }
    }

    /// A table of figures with its first row.
    pub(super) fn headed(indent: &'a str, columns: &[(&str, Side)]) -> Self {
        let mut table = Self::new(indent, columns.iter().map(|(_, side)| *side));
        table.row(columns.iter().map(|(name, _)| (Style::Head, (*name).to_owned())));
        table
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        let cells = cells.into_iter().map(|(style, text)| (style, one_line(&text)));
        self.rows.push(cells.collect());
    }

    /// A line for each row. The last column of the left is as wide as it is.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| row.get(column).map_or(0, |(_, text)| text.width())).max())
            .map(Option::unwrap_or_default)
            .collect();
        self.rows.iter().map(move |row| {
            let mut line = Line::of(self.indent);
            for (column, (style, text)) in row.iter().enumerate() {
                let space = " ".repeat(widths[column] - text.width());
                let between = if column == 0 { "" } else { "  " };
                let last = column + 1 == row.len();
                line = match self.sides[column] {
                    Side::Right => line.then(Style::Plain, &format!("{between}{space}")).then(*style, text),
                    Side::Left if last => line.then(Style::Plain, between).then(*style, text),
                    Side::Left => line.then(Style::Plain, between).then(*style, text).then(Style::Plain, &space),
                };
            }
            line
        })
    }

    pub(super) fn draw(&self, look: Look) -> Vec<String> {
        self.lines().map(|line| line.draw(look)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<'static> {
        let mut table = Table::headed("  ", &[("name", Side::Left), ("served", Side::Right), ("doing", Side::Left)]);
        table.row([(Style::Plain, "größe".into()), (Style::Good, "3".into()), (Style::Plain, "GET /\u{1b}[2J".into())]);
        table.row([(Style::Plain, "漢字".into()), (Style::Plain, "12345678".into()), (Style::Plain, String::new())]);
        table
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let lines = table().draw(Look::PLAIN);
        assert_eq!(lines, ["  name     served  doing", "  größe         3  GET /\\u{1b}[2J", "  漢字   12345678",]);
    }

    #[test]
    fn what_is_wider_than_the_terminal_is_cut_and_colours_take_no_room() {
        for colours in [false, true] {
            for width in 1..40 {
                for line in table().draw(Look { colours, width: Some(width) }) {
                    let seen = line.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
                    assert!(seen.width() <= width, "{line:?} in {width}");
                }
            }
        }
        let cut = table().draw(Look { colours: true, width: Some(12) });
        assert_eq!(cut[1], "  größe    …");
        let whole = table().draw(Look { colours: true, width: Some(80) });
        assert!(whole[1].contains("\x1b[32m3\x1b[0m"), "{whole:?}");
    }
}
