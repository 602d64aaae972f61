//! Figures, times and texts, as they are written everywhere.

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
    match bytes.map(|bytes| bytes as f64 / 1_048_576.0) {
        None => "-".into(),
        Some(mega) if mega < 10_000.0 => format!("{mega:.1}M"),
        Some(mega) => format!("{:.1}G", mega / 1024.0),
    }
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

/// Seconds since 1970 in UTC, as RFC 3339 writes them, to the millisecond.
#[must_use]
pub fn moment(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let (days, of_day) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The day of the Gregorian calendar that is so many days after the first of January 1970. Years are counted from
/// the first of March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const FROM_YEAR_0: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + FROM_YEAR_0;
    let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (seconds, text) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (951_868_799.999_4, "2000-02-29T23:59:59.999Z"),
            (1_709_251_199.5, "2024-02-29T23:59:59.500Z"),
            (1_709_251_200.0, "2024-03-01T00:00:00.000Z"),
            (1_795_719_600.123, "2026-11-26T19:00:00.123Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(moment(seconds), text);
        }
    }

    #[test]
    fn nothing_printed_commands_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\tb\u{9b}c"), "a\\u{1b}[2J\tb\\u{9b}c");
        assert_eq!(printable("größe"), "größe");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!((span(4.26), span(75.0), span(7265.0)), ("4.3s".into(), "1m15s".into(), "2h01m".into()));
        assert_eq!(
            (memory(None), memory(Some(20 << 20)), memory(Some(16 << 30))),
            ("-".into(), "20.0M".into(), "16.0G".into())
        );
    }
}
