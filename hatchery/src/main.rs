//! The `hatchery` command.
//!
//! | file | holds |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`config`] | what the operator says: a file, options, environment variables |
//! | [`serve`] | the web server with a pool inside |
//! | [`admin_http`] | metrics, health and the live page |
//! | [`orders`] | the operator's verbs |
//! | [`deploy`] | a new version, staged beside an application |
//! | [`look`], [`top`] | looking at a live pool: once, as it goes on, or in a terminal |
//! | [`admin`], [`admin_place`] | talking to a live pool, and finding it |
//! | [`pages`] | manual pages and what shells complete |
//! | [`doctor`] | what this machine offers |
//! | [`detect`] | how a folder would be started |
//! | [`demo_app`] | the application that is served when there is none |

mod admin;
mod admin_http;
mod admin_place;
mod cli;
mod config;
mod cut;
mod demo_app;
mod deploy;
mod detect;
mod doctor;
mod look;
mod orders;
mod pages;
mod serve;
mod top;

use clap::Parser;
use cli::{Cli, Verb};
use hatchery_pool_server::{Roles, Spawner};
use std::io::Write;
use std::process::ExitCode;

const ROLES: Roles = Roles {
    keeper: &["hatchery", "pool-server", "keeper"],
    core: &["hatchery", "pool-server", "core"],
    spawner: Spawner::Own(&["hatchery", "spawner"]),
};

fn main() -> ExitCode {
    // A role is taken before anything else happens in the process: keeper and spawner must stay single-threaded.
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match arguments.first().map(String::as_str) {
        Some("pool-server") if arguments[1..].iter().all(|a| !a.starts_with('-')) => {
            return hatchery_pool_server::main(ROLES, &arguments[1..]);
        }
        Some("spawner") if arguments.len() == 1 => return hatchery_spawner::main_with_demo_app(),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Monitoring has a status of its own for what is wrongly asked.
        Err(error) if is_for_health(&arguments) => return look::health::misused(&error),
        Err(error) => error.exit(),
    };
    match cli.verb {
        Verb::Serve(options) => serve::run(*options, cli.admin),
        Verb::Look(look) => look::run(&look, cli.admin),
        Verb::Top(options) => top::run(&options, cli.admin),
        Verb::Order(order) => orders::run(&order, cli.admin),
        Verb::Configuration(options) => config::source::print(*options, cli.admin),
        Verb::Config(cli::Config::Check { file, json }) => config::check(&file, json),
        Verb::Config(cli::Config::Schema) => config::print_schema(),
        Verb::Doctor(options) => doctor::run(&options),
        Verb::Detect(options) => detect::run(&options),
        Verb::Completions(options) => pages::complete(&options),
        Verb::Man(options) => pages::man(&options),
        Verb::DemoApp => demo_app::run(),
        Verb::PoolServer | Verb::Spawner => complain("this is a role that takes no arguments"),
    }
}

/// Whether the first word that is no option, and no value of `--admin`, is `health`.
fn is_for_health(arguments: &[String]) -> bool {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--admin" => drop(words.next()),
            option if option.starts_with('-') => {}
            verb => return verb == "health",
        }
    }
    false
}

/// One line on standard error, and the exit status for what failed.
fn complain(problem: impl std::fmt::Display) -> ExitCode {
    eprintln!("hatchery: {problem}");
    ExitCode::FAILURE
}

/// Prints `text`. `hatchery status | head` is no failure.
///
/// # Errors
/// It can't be written.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}
