//! What the pages quote is what the programs say.

use hatchery_protocol::report::SpawnStep;
use std::path::{Path, PathBuf};

/// Crates whose sentences somebody may meet.
const SOURCES: [&str; 6] =
    ["hatchery/src", "pool-client/src", "pool-server/src", "spawner/src", "protocol/src", "pool/src"];

/// Files whose every error is for an operator or an owner.
const ALL_OF: [&str; 13] = [
    "hatchery/src/config/mistake.rs",
    "pool-client/src/error.rs",
    "pool-server/src/keeper/exposure.rs",
    "pool-server/src/keeper/folders.rs",
    "pool-server/src/place.rs",
    "pool-server/src/privileges.rs",
    "spawner/src/environment.rs",
    "spawner/src/find.rs",
    "spawner/src/folder.rs",
    "spawner/src/identity.rs",
    "spawner/src/inspect.rs",
    "spawner/src/manifest/mistake.rs",
    "spawner/src/swap/error.rs",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    let path = repository().join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a source file, with its strings as they are said.
fn source(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // A string that is broken behind a `\` goes on with the first letter of the next line.
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    let joined = pieces.fold(first, |joined, piece| joined + piece.trim_start());
    joined.replace("\\\"", "\"").replace("{{", "{").replace("}}", "}")
}

fn sources() -> String {
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|folder| repository().join(folder)).collect();
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => all += &source(&path),
                _ => {}
            }
        }
    }
    all
}

/// The parts of a sentence that never differ.
fn fixed(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split('…').map(str::trim).filter(|part| part.chars().filter(|c| c.is_alphabetic()).count() > 2)
}

/// What stands in a cell between backquotes.
fn quoted(cell: &str) -> Option<&str> {
    let cell = cell.trim();
    match cell.strip_prefix("``") {
        Some(rest) => rest.strip_suffix("``").map(str::trim),
        None => cell.strip_prefix('`')?.strip_suffix('`'),
    }
}

/// The sentences of docs/errors.md: first cells of its tables, or third ones where the first is a name.
fn sentences(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(sentence).collect()
}

/// No sentence has a bar in it.
fn sentence(row: &str) -> Option<&str> {
    let cells: Vec<&str> = row.split('|').collect();
    quoted(cells[if cells.len() > 6 { 3 } else { 1 }])
}

#[test]
fn every_sentence_of_the_page_of_errors_is_one_that_is_said() {
    let (page, sources) = (page("errors.md"), sources());
    let sentences = sentences(&page);
    assert!(sentences.len() > 150, "{}", sentences.len());
    let unsaid: Vec<&str> =
        sentences.into_iter().filter(|sentence| fixed(sentence).any(|part| !sources.contains(part))).collect();
    assert!(unsaid.is_empty(), "docs/errors.md quotes what no source says: {unsaid:#?}");
}

#[test]
fn every_refusal_and_every_step_of_a_start_is_on_the_page_of_errors() {
    let page = page("errors.md");
    let refusals = std::fs::read_to_string(repository().join("protocol/src/refusal.rs")).expect("a source");
    let refusals = refusals.split("pub enum Refusal {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("it");
    let names = refusals
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase));
    let names: Vec<&str> = names.map(|line| line.split([',', ' ', '(']).next().unwrap_or_default()).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
    use SpawnStep::{Execute, Fork, Inspect, Load, Prepare, Ready, Update};
    for step in [Inspect, Prepare, Execute, Load, Fork, Ready, Update] {
        // One more is missing here, and on the page, if this does not compile.
        match step {
            Inspect | Prepare | Execute | Load | Fork | Ready | Update => {}
        }
        assert!(page.contains(&format!("| `{step}` |")), "{step}");
    }
}

#[test]
fn no_error_that_an_operator_or_an_owner_meets_is_missing_on_the_page() {
    let page = page("errors.md");
    let sentences = sentences(&page);
    let mut missing = Vec::new();
    for file in ALL_OF {
        let text = source(&repository().join(file));
        for said in text.split("#[error(").skip(1).filter_map(said) {
            let parts: Vec<&str> = constant(said).collect();
            let is_there = |sentence: &&str| parts.iter().all(|part| sentence.contains(part));
            if !parts.is_empty() && !sentences.iter().any(is_there) {
                missing.push(format!("{file}: {said}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/errors.md has nothing on: {missing:#?}");
}

/// The sentence that an `#[error(…)]` has, from behind its bracket.
fn said(attribute: &str) -> Option<&str> {
    let line = attribute.trim_start().strip_prefix('"')?.lines().next()?;
    // A quotation mark may be part of it: its own is followed by its arguments, or by the end.
    let end = line.rfind("\")]").or_else(|| line.rfind("\",")).or_else(|| line.rfind('"'));
    line[..end.unwrap_or(line.len())].split("\", ").next()
}

/// What of it is the same in every case.
fn constant(said: &str) -> impl Iterator<Item = &str> {
    let parts = said.split('{').enumerate().map(|(nth, part)| match part.split_once('}') {
        Some((_, rest)) if nth > 0 => rest,
        _ => part,
    });
    parts.map(str::trim).filter(|part| part.chars().filter(|c| c.is_alphabetic()).count() > 4)
}
