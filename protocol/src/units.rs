//! What the values of settings look like where people write them: in files, options, environment variables.

use std::time::Duration;

/// A kind of value: its name, and how it is read.
pub trait Kind {
    type Value;
    /// For tables and error messages.
    const NAME: &'static str;
    /// Several words make one value.
    const LIST: bool = false;
    /// Reads the words of one value; exactly one unless it is a list.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    fn read(words: &[String]) -> Result<Self::Value, String>;
    /// The words that say this value: what [`read`](Kind::read) makes it of again.
    fn write(value: &Self::Value) -> Vec<String>;
}

fn only(words: &[String]) -> Result<&str, String> {
    match words {
        [word] => Ok(word.trim()),
        _ => Err("one value is needed".to_owned()),
    }
}

/// Longer than any process lives, and short enough to be added to any clock.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A length of time: `250ms`, `10s`, `5m`, `1h`, `2d`, a bare number of seconds. `None`: `never`.
///
/// # Errors
/// One sentence.
pub fn time(text: &str) -> Result<Option<Duration>, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(None);
    }
    let wrong = || format!("`{text}` is no length of time; write it as 250ms, 10s, 5m, 1h or never");
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return Err(wrong()),
    };
    let length = Duration::try_from_secs_f64(seconds).ok().filter(|length| *length <= FOR_EVER);
    length.map(Some).ok_or_else(wrong)
}

/// The shortest of its usual spellings: `90s` is `90s`, and `300s` is `5m`.
fn length(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    match (seconds, nanos) {
        (_, 0) if seconds.is_multiple_of(86400) && seconds > 0 => format!("{}d", seconds / 86400),
        (_, 0) if seconds.is_multiple_of(3600) && seconds > 0 => format!("{}h", seconds / 3600),
        (_, 0) if seconds.is_multiple_of(60) && seconds > 0 => format!("{}m", seconds / 60),
        (_, 0) => format!("{seconds}s"),
        _ if nanos.is_multiple_of(1_000_000) => format!("{}ms", time.as_millis()),
        _ => format!("{}s", time.as_secs_f64()),
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, unit.trim()))
}

/// A length of time where zero, and `never`, mean that it never comes.
#[derive(Debug)]
pub struct Time;

impl Kind for Time {
    type Value = Duration;
    const NAME: &'static str = "time";

    fn read(words: &[String]) -> Result<Duration, String> {
        Ok(time(only(words)?)?.unwrap_or(Duration::ZERO))
    }

    fn write(time: &Duration) -> Vec<String> {
        vec![if time.is_zero() { "never".to_owned() } else { length(*time) }]
    }
}

/// A length of time where zero means at once, and `never` is very long.
#[derive(Debug)]
pub struct Patience;

impl Kind for Patience {
    type Value = Duration;
    const NAME: &'static str = "time";

    fn read(words: &[String]) -> Result<Duration, String> {
        Ok(time(only(words)?)?.unwrap_or(FOR_EVER))
    }

    fn write(time: &Duration) -> Vec<String> {
        vec![if *time >= FOR_EVER { "never".to_owned() } else { length(*time) }]
    }
}

/// A number of bytes: `4096`, `64K`, `512M`, `1GiB`. The units are powers of 1,024. `never` and 0: no limit.
#[derive(Debug)]
pub struct Size;

impl Kind for Size {
    type Value = u64;
    const NAME: &'static str = "size";

    fn read(words: &[String]) -> Result<u64, String> {
        let text = only(words)?;
        if text == "never" {
            return Ok(0);
        }
        let wrong = || format!("`{text}` is no size; write it as 4096, 64K, 512M or 1GiB");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "K" | "KB" | "KiB" | "k" => 1 << 10,
            "M" | "MB" | "MiB" => 1 << 20,
            "G" | "GB" | "GiB" => 1 << 30,
            "T" | "TB" | "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = number * factor as f64;
        // Beyond 2^53 a float counts no single bytes, which nobody means there.
        if bytes <= (1u64 << 53) as f64 { Ok(bytes as u64) } else { Err(wrong()) }
    }

    fn write(size: &u64) -> Vec<String> {
        let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        let unit = units.iter().find(|(unit, _)| *size > 0 && size.is_multiple_of(*unit));
        vec![unit.map_or_else(|| size.to_string(), |(unit, name)| format!("{}{name}", size / unit))]
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident, $type:ty, $said:literal, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Kind for $name {
            type Value = $type;
            const NAME: &'static str = $said;

            fn read(words: &[String]) -> Result<$type, String> {
                let text = only(words)?;
                text.parse().map_err(|_| format!("`{text}` is no {}", $what))
            }

            fn write(number: &$type) -> Vec<String> {
                vec![number.to_string()]
            }
        }
    )*};
}

numbers! {
    /// A whole number.
    Count, u32, "number", "whole number, such as 0, 1 or 100";
    /// A whole number that may be large.
    Tally, u64, "number", "whole number, such as 0, 1 or 100";
    /// A whole number that may be negative.
    Level, i32, "number", "whole number, such as -5, 0 or 10";
}

/// A number of processors: `0.5`, `2`.
#[derive(Debug)]
pub struct Cores;

impl Kind for Cores {
    /// In thousandths.
    type Value = u32;
    const NAME: &'static str = "cores";

    fn read(words: &[String]) -> Result<u32, String> {
        let text = only(words)?;
        match text.parse::<f64>() {
            Ok(cores) if (0.0..=100_000.0).contains(&cores) => Ok((cores * 1000.0).round() as u32),
            _ => Err(format!("`{text}` is no number of processors; write it as 0.5 or 2")),
        }
    }

    fn write(thousandths: &u32) -> Vec<String> {
        vec![(f64::from(*thousandths) / 1000.0).to_string()]
    }
}

/// A file mode mask in octal digits: `022`.
#[derive(Debug)]
pub struct Octal;

impl Kind for Octal {
    type Value = u32;
    const NAME: &'static str = "octal";

    fn read(words: &[String]) -> Result<u32, String> {
        let text = only(words)?;
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mask) if mask <= 0o777 => Ok(mask),
            _ => Err(format!("`{text}` is no mask; write it in octal digits, such as 022")),
        }
    }

    fn write(mask: &u32) -> Vec<String> {
        vec![format!("{mask:03o}")]
    }
}

/// `true` or `false`.
#[derive(Debug)]
pub struct Switch;

impl Kind for Switch {
    type Value = bool;
    const NAME: &'static str = "true or false";

    fn read(words: &[String]) -> Result<bool, String> {
        match only(words)? {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            other => Err(format!("`{other}` is neither true nor false")),
        }
    }

    fn write(on: &bool) -> Vec<String> {
        vec![on.to_string()]
    }
}

/// A word or a path.
#[derive(Debug)]
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";

    fn read(words: &[String]) -> Result<String, String> {
        match words {
            [word] if word.contains('\0') => Err("it contains a null byte".to_owned()),
            [word] => Ok(word.clone()),
            _ => Err("one value is needed".to_owned()),
        }
    }

    fn write(text: &String) -> Vec<String> {
        vec![text.clone()]
    }
}

/// Several words.
#[derive(Debug)]
pub struct List;

impl Kind for List {
    type Value = Vec<String>;
    const NAME: &'static str = "list";
    const LIST: bool = true;

    fn read(words: &[String]) -> Result<Vec<String>, String> {
        match words.iter().find(|word| word.contains('\0')) {
            Some(_) => Err("it contains a null byte".to_owned()),
            None => Ok(words.to_vec()),
        }
    }

    fn write(words: &Vec<String>) -> Vec<String> {
        words.clone()
    }
}

/// What a [`SignalName`] can be, with its number on Linux.
const SIGNALS: [(&str, i32); 7] =
    [("HUP", 1), ("INT", 2), ("QUIT", 3), ("ABRT", 6), ("USR1", 10), ("USR2", 12), ("WINCH", 28)];

/// A signal's name, with or without `SIG`.
#[derive(Debug)]
pub struct SignalName;

impl Kind for SignalName {
    /// Its number on Linux.
    type Value = i32;
    const NAME: &'static str = "signal";

    fn read(words: &[String]) -> Result<i32, String> {
        let text = only(words)?;
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let known = SIGNALS.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| *number).ok_or_else(|| {
            let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is none of {}", names.join(", "))
        })
    }

    fn write(number: &i32) -> Vec<String> {
        let known = SIGNALS.iter().find(|(_, known)| known == number);
        vec![known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<K: Kind>(text: &str) -> Result<K::Value, String> {
        K::read(&[text.to_owned()])
    }

    #[test]
    fn every_unit_of_time_and_the_bare_number_are_read() {
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
            ("never", 0),
        ] {
            assert_eq!(read::<Time>(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(read::<Patience>("never"), Ok(FOR_EVER));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "s", "5x", "-5", "1h30m", "1e9", ".", "1.2.3", "99999999999999d", "five"] {
            assert!(read::<Time>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4096", 4096), ("64K", 65_536), ("512M", 512 << 20), ("1GiB", 1 << 30), ("0.5K", 512)] {
            assert_eq!(read::<Size>(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "5Q", "-1K", "99999999T"] {
            assert!(read::<Size>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_kinds_are_read_or_refused_with_a_sentence() {
        assert_eq!(read::<Octal>("022"), Ok(0o022));
        assert!(read::<Octal>("999").unwrap_err().contains("octal"));
        assert_eq!(read::<Cores>("1.5"), Ok(1500));
        assert_eq!(read::<SignalName>("SIGQUIT"), read::<SignalName>("QUIT"));
        assert_eq!(read::<Level>("-5"), Ok(-5));
        assert!(read::<Count>("-5").is_err());
        assert_eq!(read::<Switch>("true"), Ok(true));
        assert!(read::<Switch>("maybe").is_err());
        assert!(Text::read(&[]).is_err());
    }
    #[test]
    fn what_is_written_is_read_as_the_same_and_looks_like_what_people_write() {
        fn same<K: Kind>(text: &str, written: &str) {
            let value = read::<K>(text).unwrap();
            assert_eq!(K::write(&value), [written]);
            assert_eq!(K::write(&K::read(&K::write(&value)).unwrap()), [written]);
        }
        for (text, written) in [
            ("300", "5m"),
            ("90s", "90s"),
            ("1.5s", "1500ms"),
            ("0.0001", "0.0001s"),
            ("24h", "1d"),
            ("60m", "1h"),
            ("0", "never"),
        ] {
            same::<Time>(text, written);
        }
        same::<Patience>("0", "0s");
        same::<Patience>("never", "never");
        for (text, written) in [("1024K", "1M"), ("1000", "1000"), ("0", "0"), ("1.5G", "1536M")] {
            same::<Size>(text, written);
        }
        same::<Cores>("0.50", "0.5");
        same::<Cores>("2", "2");
        same::<Octal>("22", "022");
        same::<SignalName>("SIGQUIT", "QUIT");
        same::<Level>("-5", "-5");
        same::<Switch>("yes", "true");
        let words = vec!["a b".to_owned(), "c".to_owned()];
        assert_eq!(List::write(&List::read(&words).unwrap()), words);
    }
}
