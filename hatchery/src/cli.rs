//! The command line.

use crate::units::Span;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hatchery_pool_client::{Admin, LogFormat};
use std::path::PathBuf;
use std::str::FromStr;

/// Pools of application processes: one command, any application, each in its own process.
#[derive(Debug, Parser)]
#[command(name = "hatchery", version, max_term_width = 100, infer_long_args = false)]
#[command(after_help = "Durations: 250ms, 10s, 5m, 1h or never; a bare number is seconds.\n\
    Exit status: 0 done, 1 refused or failed (one line says why), 2 usage.")]
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
    /// Show what runs, where, and how busy it is
    Status(Status),
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
    hatchery serve --app a.localhost=~/a --app b.localhost=~/b\n\n\
    Durations: 250ms, 10s, 5m, 1h or never; a bare number is seconds.")]
pub(crate) struct Serve {
    /// The application's folder; without it, the current folder if it has a hatchery.toml, else the demo app
    #[arg(value_name = "ROOT")]
    pub(crate) root: Option<PathBuf>,

    /// Serve ROOT for this host, below this path; the longest match wins (repeatable)
    #[arg(long = "app", value_name = "[HOST][/PATH]=ROOT")]
    pub(crate) apps: Vec<String>,

    /// Where to listen: ADDRESS:PORT, :PORT (every address) or unix:PATH (repeatable) [default: 127.0.0.1:8080]
    #[arg(long, env = "HATCHERY_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) listen: Vec<String>,

    /// Listen on this port of 127.0.0.1
    #[arg(long, short, env = "HATCHERY_PORT")]
    pub(crate) port: Option<u16>,

    /// Worker processes of all applications together
    #[arg(long, env = "HATCHERY_MAX", default_value = "6", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max: u32,

    /// Worker processes of one application [default: no limit]
    #[arg(long, env = "HATCHERY_MAX_PER_APP", value_name = "N")]
    pub(crate) max_per_app: Option<u32>,

    /// Workers of an application that stay once it was asked for
    #[arg(long, env = "HATCHERY_MIN", default_value = "0", value_name = "N")]
    pub(crate) min: u32,

    /// An idle worker leaves after this
    #[arg(long, env = "HATCHERY_MAX_IDLE", default_value = "5m", value_name = "TIME")]
    pub(crate) max_idle: Span,

    /// Requests at once in one worker; 0: no limit [default: what the application says, else 1]
    #[arg(long, env = "HATCHERY_CONCURRENCY", value_name = "N")]
    pub(crate) concurrency: Option<u32>,

    /// Requests of an application that may wait for a worker
    #[arg(long, env = "HATCHERY_MAX_QUEUE", default_value = "100", value_name = "N")]
    pub(crate) max_queue: u32,

    /// How long one may wait
    #[arg(long, env = "HATCHERY_MAX_QUEUE_WAIT", default_value = "30s", value_name = "TIME")]
    pub(crate) max_queue_wait: Span,

    /// How long open requests have to finish at the end
    #[arg(long, env = "HATCHERY_DRAIN_TIMEOUT", default_value = "60s", value_name = "TIME")]
    pub(crate) drain_timeout: Span,

    /// What RACK_ENV, NODE_ENV and their like are set to; `development` shows errors to the browser
    /// [default: development if only this machine is listened to, else production]
    #[arg(long, short, env = "HATCHERY_ENVIRONMENT", value_name = "NAME", value_parser = environment)]
    pub(crate) environment: Option<String>,

    /// An environment variable of the workers (repeatable)
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,

    /// Write the log to this file, not to standard error
    #[arg(long, env = "HATCHERY_LOG_FILE", value_name = "PATH")]
    pub(crate) log_file: Option<PathBuf>,

    /// How a line of the log looks
    #[arg(long, env = "HATCHERY_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
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

impl From<Option<AdminAt>> for PoolAdmin {
    fn from(at: Option<AdminAt>) -> Self {
        Self(match at {
            None => Admin::DefaultPlace,
            Some(AdminAt::None) => Admin::None,
            Some(AdminAt::Path(path)) => Admin::At(path),
        })
    }
}

/// The pool's own word for [`AdminAt`].
pub(crate) struct PoolAdmin(pub(crate) Admin);

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn environment(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err("an environment is a word, such as development, staging or production".to_owned());
    }
    Ok(name.to_owned())
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
    fn what_is_not_built_is_refused() {
        for option in ["--config=a", "--apps=a", "--watch", "--pool-user=a", "--max=0", "--max-idle=soon"] {
            assert!(Cli::try_parse_from(["hatchery", "serve", option]).is_err(), "{option}");
        }
    }
}
