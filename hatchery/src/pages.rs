//! What is generated from the command line's own definition: manual pages, and what shells complete.

use crate::cli::Cli;
use crate::{complain, print};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man as Page;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    hatchery completions bash > /etc/bash_completion.d/hatchery\n  \
    hatchery completions zsh > \"${fpath[1]}/_hatchery\"\n  \
    hatchery completions fish > ~/.config/fish/completions/hatchery.fish")]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  hatchery man | man -l -\n  hatchery man --dir /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Write the pages of all verbs into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn complete(options: &Completions) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut public(), "hatchery", &mut text);
    printed(&text)
}

pub(crate) fn man(options: &Man) -> ExitCode {
    match &options.dir {
        Some(folder) => match write_pages(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(format!("the manual pages can't be written into {}: {error}", folder.display())),
        },
        None => {
            let mut text = Vec::new();
            match Page::new(public()).render(&mut text) {
                Ok(()) => printed(&text),
                Err(error) => complain(format!("the manual page can't be made: {error}")),
            }
        }
    }
}

fn printed(text: &[u8]) -> ExitCode {
    match print(&String::from_utf8_lossy(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(public(), folder)
}

/// The command as it is for people: without the verbs that it starts itself by, and without what the environment
/// says at this moment.
fn public() -> Command {
    let whole = Cli::command();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().map(timeless);
    let empty = Command::new("hatchery").subcommand_required(true);
    let command = empty
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(verbs.collect::<Vec<_>>());
    let command = match whole.get_about() {
        Some(about) => command.about(about.clone()),
        None => command,
    };
    match whole.get_after_help() {
        Some(after) => timeless(command.after_help(after.clone())),
        None => timeless(command),
    }
}

fn timeless(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("man1");
        write_pages(&into).unwrap();
        for verb in Cli::command().get_subcommands() {
            let page = into.join(format!("hatchery-{}.1", verb.get_name()));
            assert_eq!(page.exists(), !verb.is_hide_set(), "{}", page.display());
        }
        assert!(into.join("hatchery-config-check.1").exists());
        let page = std::fs::read_to_string(into.join("hatchery.1")).unwrap();
        assert!(page.contains("hatchery\\-status") && !page.contains("pool\\-server"), "{page}");
        let page = std::fs::read_to_string(into.join("hatchery-status.1")).unwrap();
        assert!(page.contains("\\-\\-watch") && page.contains("\\-\\-json"), "{page}");
    }

    #[test]
    fn every_shell_completes_verbs_and_options_but_no_hidden_ones() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut public(), "hatchery", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["restart", "sessions", "critical-waiting", "no-wait"] {
                assert!(text.contains(word), "{word} for {shell}");
            }
            for word in ["demo-app", "pool-server", "started by the pool"] {
                assert!(!text.contains(word), "{word} for {shell}");
            }
        }
    }
}
