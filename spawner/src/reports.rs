//! Sentences for people: what went wrong, and what to do about it.

mod start;

pub(crate) use start::{launch, load};

use crate::errand::{ErrandError, INSPECT_LIMIT, Purpose, SWAP_LIMIT};
use hatchery_protocol::config::NotServed;
use hatchery_protocol::mark;
use hatchery_protocol::report::{SpawnReport, SpawnStep};

/// A report on its way.
type Report = Box<SpawnReport>;

fn report(root: &[u8], step: SpawnStep, problem: String, remedy: String) -> Report {
    let root = text(root);
    Box::new(SpawnReport { root, step, problem, remedy, output: String::new(), exit: None, setup: None })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn inspect(root: &[u8], problem: String, remedy: String) -> Report {
    report(root, SpawnStep::Inspect, problem, remedy)
}

pub(crate) fn not_served(root: &[u8], why: NotServed) -> Report {
    let root_text = text(root);
    let remedy = format!(
        "Register it in pool.toml (`[[app]]` with `root = \"{root_text}\"`) and `hatchery reload`, name the folder of \
         such apps in `apps_under`, or let every client name any root (`trust_clients = true`)."
    );
    inspect(root, format!("{root_text}: {why}"), remedy)
}

pub(crate) fn inspection_took_too_long(root: &[u8]) -> Report {
    let problem = format!("looking into {} took longer than {} s", text(root), INSPECT_LIMIT.as_secs());
    inspect(root, problem, "See whether its disk or network mount hangs.".into())
}

/// The report on an exchange of files that was not done.
pub(crate) fn update(root: &[u8], problem: String, remedy: String) -> Report {
    report(root, SpawnStep::Update, problem, remedy)
}

pub(crate) fn update_took_too_long(root: &[u8]) -> Report {
    let problem = format!("exchanging the files of {} took longer than {} s", text(root), SWAP_LIMIT.as_secs());
    update(root, problem, "See whether its disk or network mount hangs, or has much to write.".into())
}

pub(crate) fn inspection_hangs(root: &[u8]) -> Report {
    let problem = format!("an earlier look into {} still hangs in the kernel", text(root));
    inspect(root, problem, "See whether its disk or network mount hangs.".into())
}

pub(crate) fn too_busy(root: &[u8]) -> Report {
    let problem = format!("too many folders wait to be looked into before {}", text(root));
    inspect(root, problem, "Try again later; see whether a disk or network mount hangs.".into())
}

/// The report on a listener that the worker `pid` was to make.
pub(crate) fn find(pid: i32, problem: String, remedy: String) -> Report {
    let root = mark::of(pid, mark::ROOT).unwrap_or_else(|| format!("process {pid}"));
    report(root.as_bytes(), SpawnStep::Ready, problem, remedy)
}

/// An errand that brought nothing back.
pub(crate) fn errand(purpose: &Purpose, error: &ErrandError) -> Report {
    let remedy = "See whether the machine is short of memory or of processes, and try again.";
    about(purpose, error.to_string(), remedy)
}

pub(crate) fn wrong_answer(purpose: &Purpose) -> Report {
    about(purpose, "a child process brought back an answer to another question".into(), "This is a bug of Hatchery's.")
}

fn about(purpose: &Purpose, problem: String, remedy: &str) -> Report {
    match purpose {
        Purpose::Inspect { root, .. } => {
            inspect(root, format!("{} could not be looked into: {problem}", text(root)), remedy.into())
        }
        Purpose::Find { pid, .. } => {
            find(*pid, format!("the worker's listener could not be looked for: {problem}"), remedy.into())
        }
        Purpose::Swap { root, .. } => {
            update(root, format!("the files of {} could not be exchanged: {problem}", text(root)), remedy.into())
        }
        Purpose::Remove | Purpose::Clear | Purpose::Look { .. } | Purpose::Examine { .. } => {
            report(b"", SpawnStep::Prepare, problem, remedy.into())
        }
    }
}
