//! Node applications.

use super::words::{self, Line, Words};
use super::{Result, Search, Sign};
use crate::manifest::{Kind, Manifest};
use hatchery_protocol::link::Listen;
use serde_json::Value;

const PACKAGE: &str = "package.json";
const ENTRIES: [&str; 8] =
    ["server.js", "server.mjs", "server.cjs", "app.js", "app.mjs", "app.cjs", "index.js", "index.mjs"];
/// Flags of node that take the next word too.
const WITH_VALUE: [&str; 8] =
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file"];
/// What a module's file name may lack.
const ENDINGS: [&str; 6] = ["", ".js", ".mjs", ".cjs", "/index.js", ".ts"];

/// Looks at `package.json`: its `start` script, else its `main`.
pub(super) fn package_json(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let Some(file) = search.files.read(PACKAGE)? else { return Ok(None) };
    if file.cut {
        search.hints.push(format!("{PACKAGE} is longer than {} KiB", super::files::MAX_LEN / 1024));
        return Ok(None);
    }
    let package: Value = match serde_json::from_str(&file.text) {
        Ok(package) => package,
        Err(error) => {
            search.hints.push(format!("{PACKAGE} is no JSON: {error}"));
            return Ok(None);
        }
    };
    let depends = package["dependencies"].as_object().is_some_and(|dependencies| !dependencies.is_empty());
    if depends && !search.files.has_folder("node_modules") {
        search.warnings.push(format!("{PACKAGE} has dependencies, and there is no node_modules: run `npm install`"));
    }
    if let Some(script) = package["scripts"]["start"].as_str() {
        let whole = ["prestart", "poststart"].iter().any(|name| package["scripts"][name].is_string());
        let start = started(search, script, whole);
        let line = line_of(&file.text, "\"start\"");
        let why = format!("has the start script `{}`", shortened(script));
        return Ok(Some(Sign { start, what: "Node", file: PACKAGE.into(), line, why, guess: false }));
    }
    let Some(main) = package["main"].as_str() else { return Ok(None) };
    let Some(entry) = module(search, main) else {
        search.hints.push(format!("{PACKAGE} names `{}` as its `main`, which is not there", shortened(main)));
        return Ok(None);
    };
    Ok(Some(Sign {
        why: format!("names {entry} as its `main`"),
        start: Manifest::of_kind(Kind::Node, entry),
        what: "Node",
        file: PACKAGE.into(),
        line: line_of(&file.text, "\"main\""),
        guess: false,
    }))
}

/// Looks for files that usually serve.
pub(super) fn files(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let Some(entry) = ENTRIES.into_iter().find(|entry| search.files.has(entry)) else { return Ok(None) };
    Ok(Some(Sign {
        start: Manifest::of_kind(Kind::Node, entry),
        what: "Node",
        file: entry.into(),
        line: None,
        why: "has a name that Node servers have".into(),
        guess: false,
    }))
}

/// What a start script comes to. `whole`: other scripts belong to it.
fn started(search: &Search<'_>, script: &str, whole: bool) -> Manifest {
    if let Some(Line::Words(found)) = words::line(script).filter(|_| !whole)
        && let Some(start) = of_node(search, found)
    {
        return start;
    }
    let has = |name: &str| search.files.has(name);
    let command: &[&str] = match () {
        () if has("pnpm-lock.yaml") => &["pnpm", "start"],
        () if has("yarn.lock") => &["yarn", "start"],
        () if has("bun.lock") || has("bun.lockb") => &["bun", "run", "start"],
        () => &["npm", "start"],
    };
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Manifest { command: Some(command), listen: Some(Listen::Port), ..Manifest::default() }
}

/// `node [FLAGS] FILE`: our loader can do that. With arguments for the file it is a command.
fn of_node(search: &Search<'_>, mut found: Words) -> Option<Manifest> {
    let is_node = |words: &[String]| words.first().is_some_and(|word| word == "node");
    if found.words.first().is_some_and(|word| word == "cross-env") {
        found = set_by_cross_env(found);
    }
    if !is_node(&found.words) || !found.dropped.is_empty() {
        return None;
    }
    let mut interpreter = vec!["node".to_owned()];
    let mut words = found.words.iter().skip(1);
    let file = loop {
        let word = words.next()?;
        if !word.starts_with('-') {
            break word;
        }
        // Of these the rest is a program, or there is none.
        if matches!(word.as_str(), "-e" | "--eval" | "-p" | "--print" | "-" | "--" | "--run" | "--test" | "--watch") {
            return None;
        }
        interpreter.push(word.clone());
        if WITH_VALUE.contains(&word.as_str()) {
            interpreter.push(words.next()?.clone());
        }
    };
    let entry = module(search, file)?;
    if words.next().is_some() {
        let listen = (!found.words.iter().any(|word| word.contains("{port}"))).then_some(Listen::Port);
        return Some(Manifest { command: Some(found.words), listen, env: found.env, ..Manifest::default() });
    }
    let interpreter = (interpreter.len() > 1).then_some(interpreter);
    Some(Manifest { interpreter, env: found.env, ..Manifest::of_kind(Kind::Node, entry) })
}

/// Takes the variables that `cross-env` is to set, as a shell would.
fn set_by_cross_env(found: Words) -> Words {
    match words::with_variables(found.words.into_iter().skip(1).collect()) {
        Some(Line::Words(inner)) => {
            Words { env: [found.env, inner.env].concat(), dropped: [found.dropped, inner.dropped].concat(), ..inner }
        }
        Some(Line::Shell) | None => Words::default(),
    }
}

/// The file of a module that is named as `require` does.
fn module(search: &Search<'_>, name: &str) -> Option<String> {
    let name = name.strip_prefix("./").unwrap_or(name).trim_end_matches('/');
    let name = if matches!(name, "" | ".") { "index" } else { name };
    let files = ENDINGS.iter().map(|ending| format!("{name}{ending}"));
    files.into_iter().find(|file| search.files.has(file))
}

/// The first line with this word.
fn line_of(text: &str, word: &str) -> Option<usize> {
    text.lines().position(|line| line.trim_start().starts_with(word)).map(|index| index + 1)
}

fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match printable.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &printable[..end]),
        None => printable,
    }
}
