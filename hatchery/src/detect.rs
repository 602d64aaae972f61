//! `hatchery detect`: how a folder would be started, and why.

use crate::cli::Detect;
use crate::{complain, print};
use hatchery_protocol::root::normalised;
use hatchery_spawner::detect::{Detected, Sign, Undetected, detect};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(options: &Detect) -> ExitCode {
    let here = match std::env::current_dir() {
        Ok(here) => here,
        Err(error) => return complain(format!("the current folder can't be read: {error}")),
    };
    let root = normalised(&here, options.folder.as_deref().unwrap_or(Path::new(".")));
    let found = detect(&root);
    let recognised = match &found {
        Ok(_) => true,
        Err(error) => error.known.is_some(),
    };
    let text = if options.json {
        format!("{:#}\n", as_json(&root, &found))
    } else {
        match &found {
            Ok(found) => of_found(&root, found),
            Err(error) => match &error.known {
                Some(known) => of_unfit(&root, &known.sign, &known.manifest, error),
                None => return complain(format!("{error}\n{}", error.remedy.trim_end())),
            },
        }
    };
    match print(&text) {
        Err(problem) => complain(problem),
        Ok(()) if recognised => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

/// A line for each thing that is known.
fn of_found(root: &Path, found: &Detected) -> String {
    let mut text = head(root, &found.sign);
    if let Some(interpreter) = &found.interpreter {
        line(&mut text, "run by", &format!("{} ({})", interpreter.path.display(), interpreter.why));
    }
    line(&mut text, "listens", listens(found));
    for sign in &found.also {
        line(&mut text, "also found", &format!("{} ({})", because(sign), sign.how));
    }
    for warning in &found.warnings {
        line(&mut text, "warning", warning);
    }
    manifest(&mut text, &found.manifest);
    text
}

/// Of a folder that can't be started as it is.
fn of_unfit(root: &Path, sign: &Sign, toml: &str, error: &Undetected) -> String {
    let mut text = head(root, sign);
    line(&mut text, "lacks", &error.problem);
    line(&mut text, "to do", error.remedy.trim_end());
    manifest(&mut text, toml);
    text
}

fn head(root: &Path, sign: &Sign) -> String {
    let mut text = format!("{}: {} ({})\n", root.display(), sign.what, sign.how);
    line(&mut text, "because", &because(sign));
    text
}

fn line(text: &mut String, name: &str, what: &str) {
    let _ = writeln!(text, "  {name:<11}{what}");
}

fn because(sign: &Sign) -> String {
    match sign.line {
        Some(line) => format!("{}, line {line}, {}", sign.file, sign.why),
        None => format!("{} {}", sign.file, sign.why),
    }
}

fn listens(found: &Detected) -> &'static str {
    match found.listen {
        "fd" => "on a socket that it is started with, at descriptor 3",
        "stdin" => "on a socket that it is started with, at descriptor 0",
        "port" => "on a port of this machine that it is told, in PORT",
        _ => "on a socket that it makes, at a path that it is told",
    }
}

fn manifest(text: &mut String, toml: &str) {
    let _ = write!(text, "\n# A hatchery.toml that says the same:\n{toml}");
}

fn as_json(root: &Path, found: &Result<Detected, Undetected>) -> Value {
    let root = root.display().to_string();
    match found {
        Ok(found) => json!({
            "root": root,
            "recognised": true,
            "by": of_sign(&found.sign),
            "type": found.kind,
            "entry": found.entry,
            "command": found.kind.is_none().then_some(&found.command),
            "listen": found.listen,
            "protocol": found.protocol,
            "interpreter": found.interpreter.as_ref().map(|interpreter| json!({
                "path": interpreter.path.display().to_string(),
                "why": interpreter.why,
            })),
            "also": found.also.iter().map(of_sign).collect::<Vec<_>>(),
            "warnings": found.warnings,
            "problem": null,
            "remedy": null,
            "manifest": found.manifest,
        }),
        Err(error) => json!({
            "root": root,
            "recognised": error.known.is_some(),
            "by": error.known.as_ref().map(|known| of_sign(&known.sign)),
            "problem": error.problem,
            "remedy": error.remedy,
            "manifest": error.known.as_ref().map(|known| &known.manifest),
        }),
    }
}

fn of_sign(sign: &Sign) -> Value {
    json!({ "what": sign.what, "file": sign.file, "line": sign.line, "why": sign.why, "how": sign.how, "guess": sign.guess })
}
