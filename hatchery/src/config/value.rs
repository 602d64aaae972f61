//! From a value in TOML to the words that a key reads.

use super::mistake::Mistake;
use hatchery_protocol::keys::Key;
use toml::de::DeValue;

/// The words of `value`, if it is of a type that this key may have.
///
/// # Errors
/// [`Mistake::Type`], or a value that no key could have.
pub(super) fn words(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, Mistake> {
    let wrong = || Mistake::Type { key: key.name.to_owned(), expected: expected(key.kind), found: type_of(value) };
    let word = match (key.kind, value) {
        ("list", DeValue::Array(array)) => {
            let words = array.iter().map(|word| word.get_ref().as_str().map(str::to_owned));
            return words.collect::<Option<_>>().ok_or_else(|| Mistake::Type {
                key: key.name.to_owned(),
                expected: expected(key.kind),
                found: "an array of something else",
            });
        }
        ("list" | "text" | "signal" | "time" | "size" | "octal", DeValue::String(text)) => text.to_string(),
        // A mask in decimal digits is one that was meant in octal ones.
        ("octal", DeValue::Integer(number)) if number.radix() == 8 => format!("0o{}", number.as_str()),
        ("time" | "size" | "number" | "cores", DeValue::Integer(number)) => {
            let digits = number.as_str();
            let value = i128::from_str_radix(digits, number.radix());
            let why = |_| format!("`{digits}` is too large");
            value.map_err(|error| Mistake::Value { key: key.name.to_owned(), why: why(error) })?.to_string()
        }
        ("time" | "cores", DeValue::Float(number)) => number.as_str().to_owned(),
        ("true or false", DeValue::Boolean(value)) => value.to_string(),
        _ => return Err(wrong()),
    };
    Ok(vec![word])
}

/// What a key of this kind is written as.
fn expected(kind: &str) -> &'static str {
    match kind {
        "time" => "a length of time, such as \"5m\" or a number of seconds",
        "size" => "a size, such as \"512M\" or a number of bytes",
        "number" => "a whole number, such as 6",
        "cores" => "a number of processors, such as 0.5",
        "octal" => "a mask, such as \"022\"",
        "true or false" => "true or false, without quotes",
        "list" => "a list of texts, such as [\"one\", \"two\"]",
        "signal" => "a signal's name, such as \"QUIT\"",
        _ => "a text in quotes",
    }
}

pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
