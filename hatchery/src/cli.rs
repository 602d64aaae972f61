//! The command line.

use crate::config::arguments::Said;
use crate::look::Look;
use crate::orders::Order;
use crate::pages::{Completions, Man};
use crate::top::Top;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

/// Pools of application processes: one command, any application, each in its own process.
#[derive(Debug, Parser)]
#[command(name = "hatchery", version, max_term_width = 100, infer_long_args = false)]
#[command(after_help = "Exit status: 0 done, 1 refused or failed (one line says why), 2 usage.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// The pool's admin socket: its path, or `none` (for `serve`)
    #[arg(long, global = true, env = "HATCHERY_ADMIN", value_name = "PATH|none")]
    pub(crate) admin: Option<AdminAt>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve applications over HTTP
    Serve(Box<Serve>),
    #[command(flatten)]
    Look(Look),
    /// Watch the pool live, and act on what is selected
    Top(Top),
    #[command(flatten)]
    Order(Order),
    /// Work on an operator's file
    #[command(subcommand)]
    Config(Config),
    /// Show what this machine offers to a pool, what it lacks, and what that costs
    Doctor(Doctor),
    /// Show how a folder would be started, why, and the hatchery.toml that says the same
    Detect(Detect),
    /// Print what makes a shell complete this command's verbs and options
    Completions(Completions),
    /// Print this command's manual page, or write those of all verbs
    Man(Man),
    /// Print what `serve` with these options tells its pool (started by the pool)
    #[command(hide = true)]
    Configuration(Box<Serve>),
    /// Be a worker of the demo application (started by the pool)
    #[command(hide = true)]
    DemoApp,
    /// Be the pool (started by whoever embeds it)
    #[command(hide = true)]
    PoolServer,
    /// Be what starts workers (started by the pool)
    #[command(hide = true)]
    Spawner,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    hatchery serve                                     the current folder, or the demo app\n  \
    hatchery serve ~/shop -p 3000                      one application\n  \
    hatchery serve --app =~/site --app /blog=~/blog    two, by path\n  \
    hatchery serve --app a.localhost=~/a --app b.localhost=~/b\n  \
    hatchery serve --config /etc/hatchery/pool.toml    as the operator's file says\n\n\
    Times: 250ms, 10s, 5m, 1h or never; a bare number is seconds. Sizes: 64K, 512M, 1GiB; a bare number is bytes.\n\
    Options are defaults of all applications: what an [[app]] of the file says itself holds. --help lists all.")]
pub(crate) struct Serve {
    /// The application's folder; without it, the current folder if it can be served, else the demo app
    #[arg(value_name = "ROOT")]
    pub(crate) root: Option<PathBuf>,

    /// Serve ROOT for this host, below this path; the longest match wins (repeatable)
    #[arg(long = "app", value_name = "[HOST][/PATH]=ROOT")]
    pub(crate) apps: Vec<String>,

    /// Serve each subfolder of DIR that can be served at NAME.localhost, as they are at the start
    #[arg(long = "apps", value_name = "DIR")]
    pub(crate) apps_in: Option<PathBuf>,

    /// Read settings and applications from this file; options win over its [pool] and [defaults]
    #[arg(long, env = "HATCHERY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen on this port of 127.0.0.1
    #[arg(long, short, env = "HATCHERY_PORT")]
    pub(crate) port: Option<u16>,

    /// An environment variable of the workers (repeatable)
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,

    #[command(flatten)]
    pub(crate) said: Said,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Tell what is wrong with a file, a line for each mistake
    Check {
        /// The operator's file, such as pool.toml
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of such a file, for editors and other tools
    Schema,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Detect {
    /// The application's folder; without it, the current one
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the admin socket is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAt {
    None,
    Path(PathBuf),
}

impl FromStr for AdminAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a path, or `none`, is needed".to_owned()),
            "none" => Ok(Self::None),
            path => std::path::absolute(path).map(Self::Path).map_err(|error| error.to_string()),
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` sets no variable; write KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use hatchery_protocol::config::PoolOptions;
    use hatchery_protocol::options::AppOptions;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn admin_is_read_before_and_after_the_verb() {
        for line in ["hatchery --admin /run/a status", "hatchery status --admin /run/a"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.admin, Some(AdminAt::Path("/run/a".into())));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for option in ["--watch=maybe", "--quiet-period=soon", "--max=0", "--max-idle=soon", "--nice=50", "--umask=9"] {
            assert!(Cli::try_parse_from(["hatchery", "serve", option]).is_err(), "{option}");
        }
    }

    fn said(arguments: &[&str]) -> Said {
        match Cli::try_parse_from(["hatchery", "serve"].iter().chain(arguments)).unwrap().verb {
            Verb::Serve(options) => options.said,
            other => unreachable!("serve was said, not {other:?}"),
        }
    }

    #[test]
    fn every_key_is_an_option() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let keys = PoolOptions::KEYS.iter().chain(AppOptions::KEYS);
        for key in keys.filter(|key| key.name != "admin") {
            let option = serve.get_arguments().find(|option| option.get_id() == key.name);
            assert_eq!(option.and_then(|o| o.get_long()), Some(&*key.name.replace('_', "-")), "{}", key.name);
        }
    }

    #[test]
    fn a_switch_needs_no_value_and_can_have_one() {
        for (arguments, value) in [
            (vec!["--no-new-privs"], Some(true)),
            (vec!["--no-new-privs=false"], Some(false)),
            (vec!["--no-new-privs", "/srv/shop"], Some(true)),
            (vec![], None),
        ] {
            assert_eq!(said(&arguments).defaults.no_new_privs, value, "{arguments:?}");
        }
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let said = said(&["--listen", "8080,unix:/run/a", "--listen=:81", "--nice", "-5", "-e", "staging"]);
        assert_eq!(said.pool.listen.unwrap(), ["8080", "unix:/run/a", ":81"]);
        assert_eq!((said.defaults.nice, said.defaults.environment.as_deref()), (Some(-5), Some("staging")));
    }
}
