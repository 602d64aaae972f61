//! `hatchery config schema`: what `pool.toml` may say, for editors and other tools, as a JSON schema. It comes from the
//! same tables of keys as everything else, and refuses nothing that `hatchery config check` takes.

use hatchery_protocol::config::{PoolOptions, TenantOptions};
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;
use serde_json::{Map, Value, json};

/// A length of time, or a size, in a text: digits, perhaps a fraction, and a unit.
const TIME: &str = r"^\s*(never|[0-9]+(\.[0-9]*)?\s*(ms|s|m|min|h|d)?)\s*$";
const SIZE: &str = r"^\s*(never|[0-9]+(\.[0-9]*)?\s*(B|k|[KMGT](B|iB)?)?)\s*$";
const OCTAL: &str = r"^\s*(0o)?[0-7]+\s*$";
const SIGNAL: &str = r"^\s*(SIG)?(HUP|INT|QUIT|ABRT|USR1|USR2|WINCH)\s*$";

/// What no table of keys has, since it is no setting: where an application is, and what it is called.
pub(super) const OF_APPS: [(&str, &str); 4] = [
    ("root", "The application's folder; a relative path is taken from this file's folder"),
    ("host", "The host name it is served for; without it, every host that no other is served for"),
    ("path", "The path it is served below, such as /blog; without it, all of the host"),
    ("name", "What it is called in the log and by the verbs; without it, the last part of its root"),
];
pub(super) const OF_TENANTS: [(&str, &str); 1] = [("name", "What applications call it in their `tenant`")];
pub(super) const ENV: &str =
    "Environment variables of its workers; those of an [[app]] are added to those of [defaults]";

/// A setting of a table: whether it takes these words.
type Takes = fn(&str, &[String]) -> bool;

/// The text that `hatchery config schema` prints.
pub(crate) fn text() -> String {
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    let pool = properties(PoolOptions::KEYS, |name, words| PoolOptions::default().set(name, words).is_ok());
    let tenants = properties(TenantOptions::KEYS, |name, words| TenantOptions::default().set(name, words).is_ok());
    let mut defaults = properties(AppOptions::KEYS, |name, words| AppOptions::default().set(name, words).is_ok());
    let env = json!({ "description": ENV, "type": "object", "additionalProperties": { "type": "string" } });
    defaults.insert("env".to_owned(), env);
    let app = own(&OF_APPS).chain(defaults.clone()).collect();
    let tenant = own(&OF_TENANTS).chain(tenants).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Hatchery: the operator's file, pool.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "pool": table("Limits of the whole, and where it listens and logs", pool, &[]),
            "defaults": table("Limits and identity of every application", defaults, &[]),
            "app": { "type": "array", "items": table("An application", app, &["root"]) },
            "tenant": { "type": "array", "items": table("What several applications have in common", tenant, &["name"]) },
        },
    })
}

fn table(description: &str, properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut table = json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

fn own(keys: &[(&str, &str)]) -> impl Iterator<Item = (String, Value)> {
    keys.iter().map(|(name, doc)| ((*name).to_owned(), json!({ "description": doc, "type": "string" })))
}

fn properties(keys: &[Key], takes: Takes) -> Map<String, Value> {
    let property = |key: &Key| {
        let mut value = json!({ "description": format!("{}. Default: {}.", key.doc.trim(), key.default) });
        if let (Some(value), Value::Object(shape)) = (value.as_object_mut(), shape(key, takes)) {
            value.extend(shape);
        }
        (key.name.to_owned(), value)
    };
    keys.iter().map(property).collect()
}

/// What values of a key look like, as [`super::value`] reads them.
fn shape(key: &Key, takes: Takes) -> Value {
    match key.kind {
        "time" => either(&json!({ "type": "string", "pattern": TIME }), &json!({ "type": "number", "minimum": 0 })),
        "size" => either(&json!({ "type": "string", "pattern": SIZE }), &json!({ "type": "integer", "minimum": 0 })),
        "number" => number(key, takes),
        "cores" => json!({ "type": "number", "minimum": 0 }),
        // In TOML 0o22 is a number, and told apart from 18 by nobody but the reader.
        "octal" => either(
            &json!({ "type": "string", "pattern": OCTAL }),
            &json!({ "type": "integer", "minimum": 0, "maximum": 0o777 }),
        ),
        "true or false" => json!({ "type": "boolean" }),
        "list" => either(&json!({ "type": "string" }), &json!({ "type": "array", "items": { "type": "string" } })),
        "signal" => json!({ "type": "string", "pattern": SIGNAL }),
        _ => json!({ "type": "string" }),
    }
}

fn either(one: &Value, other: &Value) -> Value {
    json!({ "anyOf": [one, other] })
}

/// The bounds are those of its type, which the table does not name: they are tried.
fn number(key: &Key, takes: Takes) -> Value {
    let takes = |number: i64| takes(key.name, &[number.to_string()]);
    let mut shape = json!({ "type": "integer" });
    if !takes(-1) {
        shape["minimum"] = json!(0);
    }
    for most in [i64::from(i32::MAX), i64::from(u32::MAX)] {
        if takes(most) && !takes(most + 1) {
            shape["maximum"] = json!(most);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::OperatorsFile;
    use std::path::Path;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/pool.schema.json");

    #[test]
    fn the_file_is_what_the_command_prints() {
        let (found, current) = (std::fs::read_to_string(FILE).unwrap_or_default(), text());
        if std::env::var_os("HATCHERY_WRITE_DOCS").is_some() {
            std::fs::write(FILE, current).unwrap();
        } else {
            assert!(found == current, "{FILE} is out of date: run this test with HATCHERY_WRITE_DOCS=1");
        }
    }

    #[test]
    fn each_kind_of_value_has_a_shape_of_its_own() {
        let keys = PoolOptions::KEYS.iter().chain(AppOptions::KEYS).chain(TenantOptions::KEYS);
        let plain = json!({ "type": "string" });
        for key in keys.filter(|key| key.kind != "text") {
            assert_ne!(shape(key, |_, _| true), plain, "{} is a {}", key.name, key.kind);
        }
    }

    #[test]
    fn what_belongs_to_an_application_alone_is_what_the_reader_takes() {
        let app: Vec<String> = OF_APPS.iter().map(|(key, _)| format!("{key} = \"/x\"\n")).collect();
        let file = OperatorsFile::parse(&format!("[[app]]\n{}", app.concat()), Path::new("/"));
        // A host is no path, but it is known.
        let problems = file.map_err(|problems| format!("{problems:?}")).err().unwrap_or_default();
        assert!(!problems.contains("UnknownKey") && !problems.contains("Misplaced"), "{problems}");
    }

    #[test]
    fn bounds_of_numbers_are_those_of_their_types() {
        let schema = schema();
        let of = |table: &str, key: &str| schema["properties"][table]["properties"][key].clone();
        assert_eq!(of("pool", "max")["minimum"], 0);
        assert_eq!(of("pool", "max")["maximum"], u32::MAX);
        assert_eq!(of("defaults", "nice")["minimum"], Value::Null);
        assert_eq!(of("defaults", "nice")["maximum"], i32::MAX);
        assert_eq!(of("defaults", "max_requests")["maximum"], Value::Null);
    }
}
