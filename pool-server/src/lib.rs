//! The `pool-server` executable: two roles, always separate processes.
//!
//! | folder | role |
//! | --- | --- |
//! | `keeper/` | holds the door; parent, reaper and killer of all workers; single-threaded, no runtime |
//! | `core/` | owns the pool's decisions and carries them out: clients, connections, output, admin |
//!
//! The keeper holds mechanism only, the core policy only as far as `hatchery-pool` returns it.

mod core;
mod keeper;
mod place;
pub mod privileges;
mod processor_time;
pub mod show;

use std::process::ExitCode;

/// How the roles are started, which differs between the stand-alone executable and the `hatchery` command.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Arguments, from the program's own name on, that make this executable the keeper.
    pub keeper: &'static [&'static str],
    /// The same for the core.
    pub core: &'static [&'static str],
    /// Where the spawner is.
    pub spawner: Spawner,
}

/// Where the spawner executable is, unless the configuration names one.
#[derive(Clone, Copy, Debug)]
pub enum Spawner {
    /// This executable, with these arguments from the program's own name on.
    Own(&'static [&'static str]),
    /// `spawner` in the folder of this executable.
    Beside,
}

/// Starts a keeper whose door is standard input; or is the keeper or the core, if `arguments` (without the
/// program's name and the role's) say so.
#[must_use]
pub fn main(roles: Roles, arguments: &[String]) -> ExitCode {
    match arguments {
        [] => keeper::start(roles),
        [role] if role == "keeper" => keeper::main(roles),
        [role] if role == "core" => core::main(),
        _ => {
            eprintln!("pool-server: takes no arguments; it is started by a program that embeds hatchery-pool-client");
            ExitCode::from(2)
        }
    }
}
