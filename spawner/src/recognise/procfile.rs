//! A `Procfile`: command lines by name, of which `web` serves.

use super::venv;
use super::words::{self, Line};
use super::{Result, Search, Sign};
use crate::manifest::Manifest;
use hatchery_protocol::link::Listen;
use std::path::Path;

const NAME: &str = "Procfile";

pub(super) fn look(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let Some(file) = search.files.read(NAME)? else { return Ok(None) };
    let Some((number, text)) = web(&file.text) else {
        search.hints.push(format!("{NAME} has no `web:` line"));
        return Ok(None);
    };
    let mut env = Vec::new();
    let command = match words::line(text) {
        None => {
            search.hints.push(format!("{NAME}, line {number}: a quote has no end, or there is no command"));
            return Ok(None);
        }
        Some(Line::Shell) => shell(search, text),
        Some(Line::Words(found)) => {
            for name in &found.dropped {
                search.warnings.push(format!("{NAME}, line {number}: {name} is left out: it is Hatchery's to set"));
            }
            env = found.env;
            with_program(search, found.words, &mut env)
        }
    };
    let listen = listen(&command);
    Ok(Some(Sign {
        start: Manifest { command: Some(command), listen, env, ..Manifest::default() },
        what: "a command",
        file: NAME.into(),
        line: Some(number),
        why: "says what serves, in its `web:` line".into(),
        guess: false,
    }))
}

/// The line of `web`, and what stands in it.
fn web(text: &str) -> Option<(usize, &str)> {
    let mut lines = text.lines().enumerate();
    lines.find_map(|(index, line)| Some((index + 1, line.trim().strip_prefix("web:")?.trim())))
}

/// Where it listens; `None`: the command says it.
fn listen(command: &[String]) -> Option<Listen> {
    let says = |word: &str| command.iter().any(|argument| argument.contains(word));
    if says("{port}") || says("{socket}") {
        None
    } else if says("fd://") {
        Some(Listen::Fd)
    } else {
        Some(Listen::Port)
    }
}

/// Folders of the app with programs of its own.
fn folders(search: &Search<'_>) -> Vec<String> {
    let python = venv::of_folder(search.files).map(|venv| format!("{venv}/bin"));
    let node = search.files.has_folder(NODE_PROGRAMS).then(|| NODE_PROGRAMS.to_owned());
    python.into_iter().chain(node).collect()
}

const NODE_PROGRAMS: &str = "node_modules/.bin";

/// A line for a shell, which finds the app's own programs.
fn shell(search: &Search<'_>, text: &str) -> Vec<String> {
    let folders: String = folders(search).iter().map(|folder| format!("$PWD/{folder}:")).collect();
    let line = if folders.is_empty() { text.to_owned() } else { format!("export PATH=\"{folders}$PATH\"; {text}") };
    vec!["/bin/sh".into(), "-c".into(), line]
}

/// The words with the app's own program, if it has one of that name.
fn with_program(search: &Search<'_>, mut words: Vec<String>, env: &mut Vec<(String, String)>) -> Vec<String> {
    let Some(program) = words.first_mut().filter(|program| !program.contains('/')) else { return words };
    let own = folders(search).into_iter().find(|folder| search.files.has(Path::new(folder).join(&*program)));
    if let Some(folder) = own {
        if let Some(venv) = folder.strip_suffix("/bin").filter(|_| folder != NODE_PROGRAMS)
            && let Some(path) = search.files.path(venv).to_str()
            && env.iter().all(|(name, _)| name != venv::VARIABLE)
        {
            env.push((venv::VARIABLE.into(), path.into()));
        }
        *program = format!("{folder}/{program}");
    }
    words
}
