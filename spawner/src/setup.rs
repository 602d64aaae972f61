//! A plan for people: what they would have to do to start it by hand.

use crate::environment;
use crate::secrets;
use crate::users;
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::link::{Identity, LaunchPlan, Limits, Listen, Place, Program, ReadyBy};
use hatchery_protocol::mark;
use hatchery_protocol::options::{AppOptions, LIMITS};
use hatchery_protocol::report::Setup;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most bytes of environment that are shown. A plan has to fit into a packet, and people have to read it.
const MOST: usize = 16 * 1024;

/// What reports show of `plan`, which comes from `options` and is started among the variables `inherited`.
pub(crate) fn of(plan: &LaunchPlan, options: &AppOptions, inherited: &BTreeMap<Vec<u8>, Vec<u8>>) -> Setup {
    Setup {
        command: command(&plan.program),
        directory: text(&plan.directory),
        user: match &plan.identity {
            Some(identity) => identity.name.clone(),
            None => users::name_of(rustix::process::geteuid().as_raw()),
        },
        environment: environment(plan, inherited),
        limits: limits(options),
    }
}

/// The same of an app whose root could not be looked into to the end: what is known before anything of it was read.
pub(crate) fn known_before(root: &[u8], options: &AppOptions, identity: Option<Identity>) -> Setup {
    let plan = LaunchPlan {
        root: root.to_vec(),
        directory: root.to_vec(),
        program: Program::Command(Vec::new()),
        listen: Listen::Stdin,
        ready: ReadyBy::Probe,
        protocol: SessionProtocol::Http,
        concurrency: 1,
        environment: options.environment.clone().unwrap_or_default(),
        env: options.env.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect(),
        documents: None,
        start_timeout: Duration::ZERO,
        identity,
        limits: Limits::default(),
        dump_signal: 0,
        seen: None,
        setup: Setup::default(),
    };
    of(&plan, options, &environment::inherited(std::env::vars_os()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As it is executed, with a word for our own loader, which has no path.
fn command(program: &Program) -> Vec<String> {
    let words = match program {
        Program::Command(words) => words.iter().map(|word| text(word)).collect(),
        Program::DemoApp => vec!["hatchery".to_owned(), "demo-app".to_owned()],
        Program::Loader(loading) => {
            let own = [format!("(hatchery's {} loader)", loading.loader.name()), text(&loading.entry)];
            loading.interpreter.iter().map(|word| text(word)).chain(own).collect::<Vec<_>>()
        }
    };
    secrets::words(words.iter().map(String::as_str))
}

fn environment(plan: &LaunchPlan, inherited: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(String, String)> {
    // What is known at each start only has the place of a value.
    let place = (plan.listen == Listen::Port).then_some(Place::Port(0));
    let made = environment::of(inherited, plan, "", None, place.as_ref(), plan.listen == Listen::Fd);
    let mut shown = Vec::new();
    let mut len = 0;
    let total = made.entries.len();
    for entry in &made.entries {
        let entry = entry.to_string_lossy();
        let Some((name, value)) = entry.split_once('=') else { continue };
        let value = match name {
            mark::WORKER => "(the worker's mark)".to_owned(),
            "PORT" => "(its port)".to_owned(),
            "LISTEN_PID" => "(its process id)".to_owned(),
            _ => secrets::value(name, value),
        };
        len += name.len() + value.len();
        if len > MOST {
            shown.push(("…".to_owned(), format!("{} more", total - shown.len())));
            break;
        }
        shown.push((name.to_owned(), value));
    }
    shown
}

/// By the names of their keys, as far as they are said.
fn limits(options: &AppOptions) -> Vec<(String, String)> {
    LIMITS.iter().filter_map(|name| Some(((*name).to_owned(), limit(options, name)?))).collect()
}

fn limit(options: &AppOptions, name: &str) -> Option<String> {
    /// A size of 0 is written `never` too.
    fn size(bytes: Option<u64>) -> Option<String> {
        bytes.map(|bytes| if bytes == 0 { "never".to_owned() } else { bytes.to_string() })
    }
    fn number(number: Option<impl ToString>) -> Option<String> {
        number.map(|number| number.to_string())
    }
    match name {
        "limit_nofile" => number(options.limit_nofile),
        "limit_as" => size(options.limit_as),
        "limit_data" => size(options.limit_data),
        "limit_stack" => size(options.limit_stack),
        "limit_fsize" => size(options.limit_fsize),
        "limit_core" => number(options.limit_core),
        "limit_nproc" => number(options.limit_nproc),
        "limit_cpu" => number(options.limit_cpu),
        "nice" => number(options.nice),
        "oom_score_adj" => number(options.oom_score_adj),
        "umask" => options.umask.map(|mask| format!("{mask:03o}")),
        "no_new_privs" => number(options.no_new_privs),
        "memory_max" => size(options.memory_max),
        "cpu_max" => options.cpu_max.map(|cores| (f64::from(cores) / 1000.0).to_string()),
        "pids_max" => number(options.pids_max),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_shown_by_its_key() {
        let mut options = AppOptions::default();
        for name in LIMITS {
            let value = match name {
                "no_new_privs" => "true",
                "umask" => "022",
                "nice" | "oom_score_adj" => "5",
                "cpu_max" => "1.5",
                _ => "100",
            };
            options.set(name, &[value.to_owned()]).unwrap();
            let shown = limits(&options);
            assert!(shown.contains(&(name.to_owned(), value.to_owned())), "{name} in {shown:?}");
        }
        assert_eq!(limits(&options).len(), LIMITS.len());
        assert_eq!(limits(&AppOptions::default()), []);
    }
}
