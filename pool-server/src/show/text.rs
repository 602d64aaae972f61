//! Figures and texts, as they are written everywhere.

use std::fmt::Write;

/// `line` with its control characters made visible: what an app prints must not command a terminal.
#[must_use]
pub fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    push_printable(&mut text, line);
    text
}

pub(crate) fn push_printable(text: &mut String, line: &str) {
    if line.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return text.push_str(line);
    }
    for character in line.chars() {
        if character.is_control() && character != '\t' {
            let _ = write!(text, "{}", character.escape_default());
        } else {
            text.push(character);
        }
    }
}

/// Bytes; `-`: not known.
#[must_use]
pub fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| format!("{:.1}M", bytes as f64 / 1048576.0))
}

/// How long.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=59 => format!("{seconds:.1}s"),
        60..=3599 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}
