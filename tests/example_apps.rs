//! The applications of `examples/apps`: each is taken for what its README says, and those without a manifest start and
//! answer. The others are tested with the examples.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::folders::{self, Folder};
use support::front::{Front, greets};
use support::{HATCHERY, has, runtimes};

fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/apps")
}

/// The table of the README: folders, and what they are taken for.
fn table() -> BTreeMap<String, String> {
    let readme = std::fs::read_to_string(apps().join("README.md")).expect("the README");
    let rows = readme.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| [")?.split(" | ");
        let (name, link) = cells.next()?.split_once("](")?;
        assert_eq!(link, format!("{name})"), "the link of {name}");
        let taken_for = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), taken_for.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_folder_is_taken_for_what_the_readme_says() {
    let mut table = table();
    for entry in std::fs::read_dir(apps()).expect("the examples") {
        let folder = entry.expect("an entry").path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name of text").to_owned();
        let taken_for = table.remove(&name).unwrap_or_else(|| panic!("README.md has no row for {name}"));
        let output = Command::new(HATCHERY).arg("detect").arg(&folder).output().expect("hatchery");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().next(), Some(&*format!("{}: {taken_for}", folder.display())), "{output:?}");
        assert!(output.status.success());
    }
    assert!(table.is_empty(), "README.md has rows of folders that are not there: {table:?}");
}

/// A copy, which an app may write into and which belongs to whom it runs as.
fn example(name: &str) -> Folder {
    folders::copy_of(&apps().join(name))
}

/// The same once its package is installed.
fn node_greets(name: &str, package: &str, greeting: &str) {
    let Some(installed) = runtimes::node(&format!("the example {name}"), &[package]) else { return };
    let app = example(name);
    std::os::unix::fs::symlink(installed.join("node_modules"), app.root().join("node_modules")).expect("a link");
    greets(&app, greeting);
}

#[test]
fn express_greets() {
    node_greets("express", "express@5", "Express");
}

#[test]
fn fastify_greets() {
    node_greets("fastify", "fastify@5", "Fastify");
}

#[test]
fn rack_greets() {
    if runtimes::ruby("the example rack", "rack") {
        greets(&example("rack"), "Rack");
    }
}

#[test]
fn sinatra_greets() {
    if runtimes::ruby("the example sinatra", "sinatra") {
        greets(&example("sinatra"), "Sinatra");
    }
}

#[test]
fn php_greets() {
    if has("php-cgi", "the example php") {
        greets(&example("php"), "PHP");
    }
}

#[test]
fn a_program_greets() {
    if runtimes::plain_python("the example program").is_some() {
        greets(&example("program"), "a program");
    }
}

#[test]
fn a_procfile_serves() {
    if runtimes::plain_python("the example procfile").is_some() {
        let app = example("procfile");
        let front = Front::of(app.root(), &["--max", "1"]);
        assert!(front.get("/").ok().contains("found by a Procfile"));
        assert_eq!(front.get("/nothing").status, 404);
        assert!(front.end().success());
    }
}
