//! Lengths of time as people write them.

use std::str::FromStr;
use std::time::Duration;

/// A length of time from an option: `250ms`, `10s`, `5m`, `1h`, `2d`, a bare number of seconds, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Of(Duration),
    Never,
}

/// Longer than any process lives, and short enough to be added to any clock.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Span {
    /// For settings where zero means that the time never comes.
    pub(crate) fn or_zero(self) -> Duration {
        match self {
            Self::Of(length) => length,
            Self::Never => Duration::ZERO,
        }
    }

    /// For settings where zero means at once.
    pub(crate) fn or_for_ever(self) -> Duration {
        match self {
            Self::Of(length) => length,
            Self::Never => FOR_EVER,
        }
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let text = text.trim();
        if text == "never" {
            return Ok(Self::Never);
        }
        let wrong = || SpanError(text.to_owned());
        let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "ms" => number / 1000.0,
            "" | "s" => number,
            "m" | "min" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86400.0,
            _ => return Err(wrong()),
        };
        Duration::try_from_secs_f64(seconds).ok().filter(|length| *length <= FOR_EVER).map(Self::Of).ok_or_else(wrong)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SpanError(String);

impl std::fmt::Display for SpanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is no length of time; write it as 250ms, 10s, 5m, 1h or never", self.0)
    }
}

impl std::error::Error for SpanError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_and_the_bare_number_are_read() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("7", 7000),
            ("0", 0),
            ("1.5s", 1500),
            (" 10s ", 10_000),
        ] {
            assert_eq!(text.parse(), Ok(Span::Of(Duration::from_millis(milliseconds))), "{text}");
        }
        assert_eq!("never".parse(), Ok(Span::Never));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "s", "5x", "-5", "1h30m", "1e9", ".", "1.2.3", "99999999999999d", "five"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
