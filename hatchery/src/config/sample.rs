//! `packaging/pool.toml`: every key with its sentence and its default, commented out. Written by a test, from the keys.

use super::file::OperatorsFile;
use super::schema::{ENV, OF_APPS, OF_TENANTS};
use hatchery_protocol::config::{PoolOptions, TenantOptions};
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;
use std::fmt::Write;
use std::path::Path;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/pool.toml");

const HEAD: &str = "\
#:schema ./pool.schema.json
#
# What Hatchery serves, and within which limits: `hatchery serve --config /etc/hatchery/pool.toml`.
#
# Every key stands here with what it does and with what holds where it is not said, commented out: a file without a line
# that says something is one of defaults. A key with nothing behind its `=` has a default that is no value.
# `hatchery config check FILE` names mistakes by line and column; after a change, `systemctl reload hatchery`.
#
# Times are written 250ms, 10s, 5m, 1h, 2d or never, in quotes; a bare number is seconds. Sizes are 64K, 512M or 1GiB, in
# quotes; a bare number is bytes.
";

/// The default as it would be written, if it is a value.
fn value(key: &Key) -> Option<String> {
    let default = key.default.split(';').next().unwrap_or_default().trim_matches('`');
    let is_word = !default.contains(char::is_whitespace) && default != "none";
    match (key.kind, default) {
        ("number" | "size" | "time", "never" | "no limit") => Some("0".to_owned()),
        ("list", "none") => Some("[]".to_owned()),
        ("list", word) if is_word => Some(format!("[{word:?}]")),
        ("number" | "cores", number) => number.parse::<f64>().ok().map(|_| number.to_owned()),
        ("true or false", "true" | "false") => Some(default.to_owned()),
        ("time" | "size" | "octal", word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(format!("{word:?}"))
        }
        ("text" | "signal", word) if is_word => Some(format!("{word:?}")),
        _ => None,
    }
}

fn keys(file: &mut String, keys: &[Key]) {
    for key in keys {
        let value = value(key);
        let prose = value.is_none() || key.default.contains(';');
        let default = if prose { format!(" (default: {})", key.default) } else { String::new() };
        let _ = writeln!(file, "\n# {}{default}", key.doc.trim());
        let _ = writeln!(file, "#{} = {}", key.name, value.unwrap_or_default());
    }
}

fn own(file: &mut String, keys: &[(&str, &str)]) {
    for (name, doc) in keys {
        let _ = writeln!(file, "\n# {doc}\n#{name} = ");
    }
}

fn sample() -> String {
    let mut file = format!("{HEAD}\n# The whole.\n[pool]\n");
    keys(&mut file, PoolOptions::KEYS);
    file += "\n\n# What every application has that says nothing else.\n[defaults]\n";
    keys(&mut file, AppOptions::KEYS);
    let _ = writeln!(file, "\n# {ENV}\n#env = {{ NAME = \"value\" }}");
    file += "\n\n# What applications have in common that say `tenant = \"NAME\"`. One of these for each tenant.\n#[[tenant]]\n";
    own(&mut file, &OF_TENANTS);
    keys(&mut file, TenantOptions::KEYS);
    file += "\n\n# An application. One of these for each, with any key of [defaults] besides these.\n#[[app]]\n";
    own(&mut file, &OF_APPS);
    // Nothing may stand at the end of a line, and nothing does behind `=` either.
    let lines: Vec<&str> = file.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[test]
fn the_file_has_every_key_as_it_is() {
    let (found, current) = (std::fs::read_to_string(FILE).unwrap_or_default(), sample());
    if std::env::var_os("HATCHERY_WRITE_DOCS").is_some() {
        std::fs::write(FILE, current).unwrap();
    } else {
        assert!(found == current, "{FILE} is out of date: run this test with HATCHERY_WRITE_DOCS=1");
    }
}

#[test]
fn a_default_that_is_a_value_can_be_said() {
    for (table, keys) in [("pool", PoolOptions::KEYS), ("defaults", AppOptions::KEYS)] {
        for (key, value) in keys.iter().filter_map(|key| Some((key, value(key)?))) {
            // Some make sense only together with others.
            let problems = OperatorsFile::parse(&format!("[{table}]\n{} = {value}\n", key.name), Path::new("/"));
            if let Err(problems) = problems {
                let problems = format!("{problems:?}");
                assert!(problems.contains("Senseless"), "{} = {value}: {problems}", key.name);
            }
        }
    }
}
