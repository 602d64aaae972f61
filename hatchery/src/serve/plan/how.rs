//! How an application would be started, as far as its folder tells the web server at a glance. The spawner looks for
//! itself, as whom the application runs as.

use hatchery_spawner::detect::{Detected, Undetected, detect};
use std::path::Path;

/// Whether there is anything that says how it is started; what is wrong with that is shown to whoever asks for it.
pub(super) fn is_servable(root: &Path) -> bool {
    !matches!(detect(root), Err(Undetected { nothing: true, .. }))
}

/// Whether it is plain enough for a folder that nobody has named: a program that merely lies there is not executed.
pub(super) fn is_servable_unasked(root: &Path) -> bool {
    match detect(root) {
        Ok(found) => !found.sign.guess,
        Err(error) => !error.nothing,
    }
}

/// Why a folder is not served in which there is nothing.
pub(super) fn nothing(root: &Path) -> String {
    format!("nothing in it says how it is started; `hatchery detect {}` tells what was looked for", root.display())
}

/// For the first line, after the path.
pub(super) fn shown(root: &Path) -> String {
    match detect(root) {
        Ok(found) if root.is_file() => format!(" ({})", found.sign.how),
        Ok(found) => format!(" ({}{}{})", found.sign.how, run_by(&found), source(&found.sign.file)),
        Err(Undetected { nothing: true, .. }) => " (nothing in it says how it is started)".to_owned(),
        Err(Undetected { known: Some(known), problem, .. }) => format!(" ({}; {problem})", known.sign.how),
        Err(error) => format!(" ({error})"),
    }
}

/// What runs it, relative to its folder where it is there; else by name: whom it runs as may find another.
fn run_by(found: &Detected) -> String {
    let Some(interpreter) = &found.interpreter else { return String::new() };
    let path = interpreter.path.strip_prefix(&found.folder).ok();
    let name = path.or_else(|| interpreter.path.file_name().map(Path::new)).unwrap_or(&interpreter.path);
    format!(", {}", name.display())
}

fn source(file: &str) -> &'static str {
    if file == "hatchery.toml" { ", as its hatchery.toml says" } else { "" }
}
