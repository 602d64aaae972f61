//! The tables of `docs/configuration.md`: written by a test, from the keys themselves.

use super::arguments::variable;
use super::file::OperatorsFile;
use hatchery_protocol::config::{PoolOptions, TenantOptions};
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;
use std::fmt::Write;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

fn table(keys: &[Key]) -> String {
    let mut table =
        String::from("| key | value | default | who may set it | what it does |\n| --- | --- | --- | --- | --- |\n");
    for Key { name, kind, default, who, doc, .. } in keys {
        let _ = writeln!(table, "| `{name}` | {kind} | {default} | {} | {} |", who.said(), doc.trim());
    }
    table
}

/// `page` with what stands between two comments replaced.
fn with(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{PAGE} has no {end}"));
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn the_page_lists_every_key_as_it_is() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let current = with(&page, "pool", &table(PoolOptions::KEYS));
    let current = with(&current, "defaults", &table(AppOptions::KEYS));
    let current = with(&current, "tenant", &table(TenantOptions::KEYS));
    if std::env::var_os("HATCHERY_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &current).unwrap();
    } else {
        assert!(page == current, "{PAGE} is out of date: run this test with HATCHERY_WRITE_DOCS=1");
    }
}

#[test]
fn the_examples_of_the_pages_are_files_without_a_mistake() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let pages = [PAGE, readme].map(|page| std::fs::read_to_string(page).unwrap());
    let blocks = pages.iter().flat_map(|page| page.split("```toml\n").skip(1));
    // Others are an application's hatchery.toml.
    let examples = blocks.filter_map(|rest| rest.split("```").next()).filter(|example| example.starts_with("[pool]"));
    let examples: Vec<&str> = examples.collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        if let Err(problems) = OperatorsFile::parse(example, Path::new("/etc/hatchery")) {
            panic!("{problems:?} in {example}");
        }
    }
}

#[test]
fn no_two_keys_share_a_variable_with_each_other_or_with_what_hatchery_uses_itself() {
    let keys = PoolOptions::KEYS.iter().chain(AppOptions::KEYS);
    let mut names: Vec<String> = keys.map(variable).collect();
    let used = ["POOL", "WORKER", "ROOT", "ENV", "LOG", "PORT", "CONFIG", "POOL_SERVER"];
    names.extend(used.map(|name| format!("HATCHERY_{name}")));
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}
