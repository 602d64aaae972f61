//! Interpreters that applications need.

use super::Finding;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// No version is longer.
const LONGEST: u64 = 4096;

pub(super) fn findings() -> Vec<Finding> {
    let programs = [
        ("python3", "--version", "Python"),
        ("ruby", "--version", "Ruby"),
        ("node", "--version", "Node"),
        ("php-cgi", "--version", "PHP"),
    ];
    programs.map(|(program, option, language)| finding(program, option, language)).into()
}

fn finding(program: &'static str, option: &str, language: &str) -> Finding {
    let lacks = |what: String| {
        let remedy = "install it where the PATH of the pool finds it, if there are any";
        Finding::lacks(program, format!("{what}: no application in {language} can be started"), remedy)
    };
    let Some(path) = on_path(program) else { return lacks("it is not on the PATH".to_owned()) };
    match version(&path, option) {
        Ok(version) => Finding::ok(program, format!("{version} ({})", path.display())),
        Err(why) => lacks(format!("{} {why}", path.display())),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The first line it says of itself.
fn version(path: &PathBuf, option: &str) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg(option).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("can't be executed ({error})"))?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(PAUSE),
            Ok(None) | Err(_) => {
                // It is ours, and not reaped yet.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not tell its version within {} s", PATIENCE.as_secs()));
            }
        }
    };
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(LONGEST).read_to_end(&mut said).map_err(|error| format!("can't be heard ({error})"))?;
    }
    let said = String::from_utf8_lossy(&said);
    match said.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) if status.success() => Ok(line.chars().filter(|c| !c.is_control()).collect()),
        _ => Err(format!("does not tell its version ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_tells_its_version_and_one_that_is_not_is_lacking() {
        assert_eq!(version(&"/bin/echo".into(), "v1 of it").unwrap(), "v1 of it");
        assert!(version(&"/bin/false".into(), "").unwrap_err().contains("does not tell its version"));
        assert!(
            finding("no-such-program", "", "Nonsense")
                .line()
                .starts_with("lacks  no-such-program: it is not on the PATH")
        );
    }
}
