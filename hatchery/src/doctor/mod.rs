//! `hatchery doctor`: what this machine offers to a pool, and what it lacks; a line each.
//!
//! | file | holds |
//! | --- | --- |
//! | [`machine`] | kernel, rights, users, descriptors, `/proc`, folders |
//! | [`cgroups`] | what can be done with control groups here |
//! | [`programs`] | interpreters that applications need |

mod cgroups;
mod machine;
mod programs;

use crate::cli::Doctor;
use crate::{complain, print};
use serde_json::json;
use std::process::ExitCode;

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    name: &'static str,
    state: State,
    /// What is there, or what is not and what that costs.
    what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ok,
    /// With what to do about it.
    Lacks(String),
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: State::Ok, what: what.into() }
    }

    fn lacks(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Lacks(remedy.into()), what: what.into() }
    }

    fn line(&self) -> String {
        let (name, what) = (self.name, &self.what);
        match &self.state {
            State::Ok => format!("ok     {name}: {what}"),
            State::Lacks(remedy) => format!("lacks  {name}: {what}; {remedy}"),
        }
    }

    fn json(&self) -> serde_json::Value {
        let remedy = match &self.state {
            State::Ok => None,
            State::Lacks(remedy) => Some(remedy),
        };
        json!({ "name": self.name, "ok": self.state == State::Ok, "what": self.what, "remedy": remedy })
    }
}

pub(crate) fn run(options: &Doctor) -> ExitCode {
    let findings: Vec<Finding> =
        machine::findings().into_iter().chain(cgroups::findings()).chain(programs::findings()).collect();
    let text = if options.json {
        let checks: Vec<serde_json::Value> = findings.iter().map(Finding::json).collect();
        format!("{:#}\n", json!({ "version": hatchery_protocol::VERSION, "checks": checks }))
    } else {
        findings.iter().map(|finding| finding.line() + "\n").collect()
    };
    match print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_says_what_to_do_where_something_is_lacking() {
        assert_eq!(Finding::ok("pidfd", "there").line(), "ok     pidfd: there");
        let lacks = Finding::lacks("nobody", "there is none", "make one");
        assert_eq!(lacks.line(), "lacks  nobody: there is none; make one");
        assert_eq!(lacks.json()["remedy"], "make one");
    }

    #[test]
    fn every_finding_of_this_machine_is_one_line() {
        for finding in machine::findings().into_iter().chain(cgroups::findings()).chain(programs::findings()) {
            assert!(!finding.line().contains('\n'), "{}", finding.line());
        }
    }
}
