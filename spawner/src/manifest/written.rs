//! From what a manifest says to the text that says it.

use super::{Manifest, PROTOCOLS, READYS, listen_name};
use std::fmt::Write;
use toml::Value;

/// The text of a `hatchery.toml` that says this.
pub(crate) fn written(manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value}");
        }
    };
    let word = |word: &str| Value::from(word);
    line("command", manifest.command.as_deref().map(words));
    line("type", manifest.kind.map(|kind| word(kind.name())));
    line("entry", manifest.entry.as_deref().map(word));
    line("interpreter", manifest.interpreter.as_deref().map(words));
    line("preload", manifest.preload.map(Value::from));
    line("protocol", manifest.protocol.map(|protocol| word(PROTOCOLS.name(protocol))));
    line("listen", manifest.listen.map(|listen| word(listen_name(listen))));
    line("ready", manifest.ready.map(|ready| word(READYS.name(ready))));
    line("concurrency", manifest.concurrency.map(Value::from));
    if !manifest.env.is_empty() {
        text.push_str("\n[env]\n");
        for (name, value) in &manifest.env {
            let _ = writeln!(text, "{} = {}", key(name), word(value));
        }
    }
    text
}

fn words(words: &[String]) -> Value {
    words.iter().map(|word| Value::from(word.as_str())).collect::<Vec<_>>().into()
}

/// A name, in quotes where TOML wants them.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { Value::from(name).to_string() }
}
