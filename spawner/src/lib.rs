//! From a launch plan to a process: looks into app roots, starts workers, finds the listeners that workers make
//! themselves. Mechanism only: what is started, and when, the pool decides.
//!
//! One thread, no runtime, because this process forks. It waits in one place, `poll(2)` in `serve`, and is
//! never in reach of what could make it wait elsewhere: every path below an app root is touched by a forked
//! child (an `errand`, or the worker before its exec), which can be killed when it hangs. If this process is
//! privileged, that child has become the app's user before.
//!
//! ```text
//! keeper ──(descriptor 3)── spawner ──▶ errand            looks, answers, ends: the spawner's child
//!    │                          └─────▶ (intermediate) ─▶ worker
//!    └── parent of ◀───────────────────────────────────────┘
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `startup` | what must hold before the first message: descriptor 3, signals, session |
//! | `serve` | the loop, and what each message does; in `serve/sent`, what errands are sent for |
//! | `phase` | which message is permitted when |
//! | `outbox` | answers that wait for the keeper to read |
//! | `errand` | a short-lived child that touches what could hang, and its answer |
//! | `errands` | all of them: how many at once, which wait, which hang |
//! | `inspect`, `manifest`, `folder` | how an app is started: from its root, its `hatchery.toml` |
//! | `recognise`, `start` | or from what lies there; and what a manifest comes to |
//! | `detect` | the same for people, before anything is started |
//! | `setup`, `secrets` | a plan for people, without what may be secret |
//! | `look` | what about an app's root can ask for a restart |
//! | `swap`, `trials` | exchanging an app's files for another version of them |
//! | `identity`, `users` | whom an app runs as: from what the operator said, and who owns what is at its root |
//! | `privilege` | what an errand gives up before it looks |
//! | `examine` | finding out about a running worker |
//! | `launch` | one start, from a plan to `Started` or `SpawnFailed` |
//! | `command` | a command line, and a folder with its parents |
//! | `child`, `confine` | what runs between fork and exec, and nothing else |
//! | `limits` | what a worker may use, and the sentences about what could not be done |
//! | `pool_group`, `mounts` | the pool's control group |
//! | `cgroup` | in it one for each worker |
//! | `word` | what the new process says meanwhile |
//! | `loaders` | the text of our loaders, and how each is started |
//! | `control` | what loaders say, and are told |
//! | `preloaders` | the channels to them: a worker's until it serves, a preloader's for all its life |
//! | `forks` | a worker that is forked from a preloader, until it has announced itself |
//! | `environment` | a worker's environment |
//! | `place` | ports and socket folders of workers that make their own listener |
//! | `find`, `tcp`, `tree`, `socket` | looking for that listener |
//! | `reports` | sentences for people |
//! | `sweep` | when the keeper is gone |
//!
//! # What the keeper can rely on
//!
//! - Every `Inspect`, `Look`, `Swap`, `Spawn` and `Examine` is answered once. Answers come in the order of their
//!   being ready.
//! - After a `Swap` that failed, the app's files are what they were: at once, or when they are next looked into.
//! - `Started` comes when the program is executing, and its process is the keeper's child, leads a session and a
//!   process group of its own, and dies with the keeper. It is in the control group that `Started` tells, if there
//!   can be one; limits that are not applied, and need not be, have a sentence each there.
//! - Whom an app runs as, and what it may use, comes from the configuration that came with `Begin`
//!   or the last `Configure`, whatever
//!   `Inspect` says; in a pool without privileges, or with `trust_clients`, from `Inspect`.
//! - Until a `Spawn` is answered, the keeper must not reap a child that it does not know: the spawner may still
//!   have to end it. After `SpawnFailed` such a child is a zombie, or about to be.
//! - A worker that is forked is all that `Started` says, too; that it dies with the keeper, its loader sees to. Until
//!   the spawner has seen whose process it is, and has put it into its control group, it runs nothing of the app's.
//! - What loaders say of an app, `Preloaded` and `LoadFailed`, comes after `Started`, and each once at most.
//! - `Gone` takes back all that a worker has here: its port, its folder, its control group with all that is in it,
//!   the looking for its listener. A worker that is still being started is given up, and answered with
//!   `SpawnFailed`. The number is free again.
//! - `Find` works for workers of an earlier spawner too. It is answered once, or not at all after `Gone`.
//! - With this process, all preloaders lose their channel, and leave.
//! - When the link ends, the spawner kills all that is in the pool's control group or carries the mark of the
//!   pool's workers, and removes the group and the runtime folder. When it ends the link itself, because of what
//!   came through it, workers stay as they are, and starts that were not answered are given up.

mod cgroup;
mod child;
mod command;
mod confine;
mod control;
pub mod detect;
mod environment;
mod errand;
mod errands;
mod examine;
mod find;
mod folder;
mod forks;
mod identity;
mod inspect;
mod launch;
mod limits;
mod loaders;
mod look;
mod manifest;
pub mod mounts;
mod outbox;
mod phase;
mod place;
mod pool_group;
mod preloaders;
mod privilege;
mod recognise;
mod reports;
mod secrets;
mod serve;
mod setup;
mod socket;
mod start;
mod startup;
mod swap;
mod sweep;
mod tcp;
mod tree;
mod trials;
mod users;
mod word;

use std::process::ExitCode;

/// The stand-alone `spawner` executable, which has no demo app inside.
#[must_use]
pub fn main() -> ExitCode {
    run(startup::DemoApp::Absent)
}

/// The role inside an executable that runs the demo app when it is called with the argument `demo-app`.
#[must_use]
pub fn main_with_demo_app() -> ExitCode {
    run(startup::DemoApp::InThisExecutable)
}

fn run(demo_app: startup::DemoApp) -> ExitCode {
    let result = startup::start(demo_app).map_err(|error| error.to_string());
    match result.and_then(|spawner| serve::serve(spawner).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("spawner: {why}");
            ExitCode::FAILURE
        }
    }
}
