//! Programs that serve by themselves. What is unknown is given a port, in `PORT`, since that is what most know.

use super::{Result, Search, Sign};
use crate::manifest::Manifest;
use hatchery_protocol::link::Listen;

const NAMES: [&str; 6] = ["server", "app", "run", "start", "bin/server", "bin/app"];
/// Programs that lie about in folders of apps, and serve nothing.
const TOOLS: [&str; 8] = ["artisan", "build", "configure", "deploy", "gradlew", "install", "manage.py", "mvnw"];

pub(super) fn look(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let found = NAMES.into_iter().find(|name| search.files.has_program(name));
    Ok(found.map(|name| sign(name, "is an executable file of a name that servers have".into())))
}

/// Where there is one program, it is that.
pub(super) fn only(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let is_tool = |name: &str| TOOLS.contains(&name.trim_end_matches(".sh"));
    let names = search.files.names();
    let mut programs = names.iter().filter(|name| !is_tool(name) && search.files.has_program(name));
    match (programs.next(), programs.next()) {
        (Some(name), None) => {
            // In a folder where somebody happens to be it may do anything.
            Ok(Some(Sign { guess: true, ..sign(name, "is the only executable file in the folder".into()) }))
        }
        (Some(one), Some(other)) => {
            search.hints.push(format!(
                "there are several executable files, such as {one} and {other}: name one as the `command`"
            ));
            Ok(None)
        }
        (None, _) => Ok(None),
    }
}

fn sign(name: &str, why: String) -> Sign {
    // With a slash it is looked for in the folder, and not on the PATH.
    let start =
        Manifest { command: Some(vec![format!("./{name}")]), listen: Some(Listen::Port), ..Manifest::default() };
    Sign { start, what: "a program", file: name.into(), line: None, why, guess: false }
}
