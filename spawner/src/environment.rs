//! A worker's environment: clean, the same wherever the pool was started.

use crate::child::PID_DIGITS;
use hatchery_protocol::link::{LaunchPlan, Place};
use hatchery_protocol::mark;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// What a worker's `PATH` is when the pool was started without one.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const INHERITED: [&[u8]; 9] =
    [b"PATH", b"HOME", b"USER", b"LOGNAME", b"SHELL", b"LANG", b"TZ", b"TMPDIR", b"SSL_CERT_FILE"];

/// Names under which frameworks look for the name of the environment.
const ENVIRONMENT_NAMES: [&str; 5] = ["HATCHERY_ENV", "APP_ENV", "RACK_ENV", "RAILS_ENV", "NODE_ENV"];

/// Why a variable can't be an app's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("an environment variable has an empty name")]
    Empty,
    #[error("the name of an environment variable contains `=` or a null byte")]
    Malformed,
    #[error("the value of an environment variable contains a null byte")]
    Value,
    #[error("the environment variable is Hatchery's own to set")]
    Reserved,
}

/// Whether an app may have this variable of its own.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.contains(&b'=') || name.contains(&0) {
        Err(NameError::Malformed)
    } else if value.contains(&0) {
        Err(NameError::Value)
    } else if name.starts_with(b"HATCHERY_")
        || name.starts_with(b"LISTEN_")
        || name == b"PORT"
        || name == b"NOTIFY_SOCKET"
    {
        Err(NameError::Reserved)
    } else {
        Ok(())
    }
}

type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a worker gets of this process's own environment.
pub(crate) fn inherited(own: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>) -> Variables {
    let mut variables: Variables = own
        .into_iter()
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| INHERITED.contains(&name.as_slice()) || name.starts_with(b"LC_") || name == b"SSL_CERT_DIR")
        .collect();
    variables.entry(b"PATH".to_vec()).or_insert_with(|| DEFAULT_PATH.to_vec());
    variables
}

/// A worker's environment, ready for `execve(2)`.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) entries: Vec<CString>,
    /// Which entry is `LISTEN_PID=` with room for the digits.
    pub(crate) own_pid_entry: Option<usize>,
    /// Where programs are looked for.
    pub(crate) path: Vec<u8>,
}

/// `inherited`, with what the plan says over it, and what Hatchery says over that.
pub(crate) fn of(
    inherited: &Variables,
    plan: &LaunchPlan,
    worker: &str,
    notify: Option<&[u8]>,
    place: Option<&Place>,
    listener_at_3: bool,
) -> Environment {
    let mut variables = inherited.clone();
    if let Some(identity) = &plan.identity {
        let shell = if identity.shell.is_empty() { b"/bin/sh".to_vec() } else { identity.shell.clone() };
        let name = identity.name.clone().into_bytes();
        for (variable, value) in [
            (&b"HOME"[..], if identity.home.is_empty() { b"/".to_vec() } else { identity.home.clone() }),
            (b"USER", name.clone()),
            (b"LOGNAME", name),
            (b"SHELL", shell),
        ] {
            variables.insert(variable.to_vec(), value);
        }
    }
    for name in ENVIRONMENT_NAMES {
        variables.insert(name.into(), plan.environment.clone().into_bytes());
    }
    // Checked at inspection already; what comes back from the keeper is judged anew.
    for (name, value) in plan.env.iter().filter(|(name, value)| check(name, value).is_ok()) {
        variables.insert(name.clone(), value.clone());
    }
    variables.insert(mark::WORKER.into(), worker.into());
    variables.insert(mark::ROOT.into(), plan.root.clone());
    if let Some(notify) = notify {
        variables.insert(b"NOTIFY_SOCKET".to_vec(), notify.to_vec());
    }
    if let Some(Place::Port(port)) = place {
        variables.insert(b"PORT".to_vec(), port.to_string().into_bytes());
    }
    if listener_at_3 {
        variables.insert(b"LISTEN_FDS".to_vec(), b"1".to_vec());
        variables.insert(b"LISTEN_FDNAMES".to_vec(), b"hatchery".to_vec());
        variables.insert(b"LISTEN_PID".to_vec(), vec![b' '; PID_DIGITS]);
    }
    let path = variables.get(&b"PATH"[..]).cloned().unwrap_or_default();
    let own_pid_entry = variables.keys().position(|name| name == b"LISTEN_PID");
    let entries = variables
        .into_iter()
        .map(|(name, value)| {
            let entry = [name, value].join(&b'=');
            // Variables are checked; a null in a root or a path ends the value, as it does for all who read it.
            CString::new(entry).unwrap_or_else(|error| {
                let end = error.nul_position();
                CString::new(&error.into_vec()[..end]).unwrap_or_default()
            })
        })
        .collect();
    Environment { entries, own_pid_entry, path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::client::SessionProtocol;
    use hatchery_protocol::link::{Identity, Limits, Listen, Program, ReadyBy};
    use std::time::Duration;

    fn plan(env: &[(&str, &str)]) -> LaunchPlan {
        LaunchPlan {
            root: b"/apps/shop".to_vec(),
            directory: b"/apps/shop".to_vec(),
            program: Program::Command(vec![b"true".to_vec()]),
            listen: Listen::Fd,
            ready: ReadyBy::Probe,
            protocol: SessionProtocol::Http,
            concurrency: 1,
            environment: "staging".into(),
            env: env.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect(),
            start_timeout: Duration::from_secs(1),
            identity: None,
            limits: Limits::default(),
            dump_signal: 0,
            seen: None,
            documents: None,
            setup: hatchery_protocol::report::Setup::default(),
        }
    }

    fn text(environment: &Environment) -> Vec<&str> {
        environment.entries.iter().map(|entry| entry.to_str().unwrap()).collect()
    }

    #[test]
    fn a_worker_inherits_only_what_is_no_secret() {
        let own =
            [("HOME", "/root"), ("LC_ALL", "C"), ("SSL_CERT_DIR", "/c"), ("AWS_SECRET", "x"), ("HATCHERY_POOL", "p")];
        let inherited = inherited(own.map(|(name, value)| (name.into(), value.into())));
        let environment = of(&inherited, &plan(&[]), "p.1.2", None, None, false);
        assert_eq!(
            text(&environment),
            [
                "APP_ENV=staging",
                "HATCHERY_ENV=staging",
                "HATCHERY_ROOT=/apps/shop",
                "HATCHERY_WORKER=p.1.2",
                "HOME=/root",
                "LC_ALL=C",
                "NODE_ENV=staging",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "RACK_ENV=staging",
                "RAILS_ENV=staging",
                "SSL_CERT_DIR=/c",
            ]
        );
    }

    #[test]
    fn who_a_worker_runs_as_is_said_in_its_environment() {
        let own = [("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/zsh"), ("LANG", "C")];
        let inherited = inherited(own.map(|(name, value)| (name.into(), value.into())));
        let mut plan = plan(&[("SHELL", "/bin/own")]);
        let identity = Identity {
            uid: 7,
            gid: 7,
            groups: vec![7],
            name: "ann".into(),
            home: b"/home/ann".to_vec(),
            shell: Vec::new(),
        };
        plan.identity = Some(identity);
        let environment = of(&inherited, &plan, "p.1.2", None, None, false);
        let text = text(&environment);
        for entry in ["HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/own", "LANG=C"] {
            assert!(text.contains(&entry), "{entry} is not in {text:?}");
        }
    }

    #[test]
    fn the_apps_own_variables_win_but_not_over_hatcherys() {
        let mut plan = plan(&[("PATH", "/a"), ("A", "1"), ("A", "2"), ("PORT", "1"), ("HATCHERY_WORKER", "other")]);
        plan.listen = Listen::Port;
        let environment = of(&inherited([]), &plan, "p.1.2", Some(b"/n"), Some(&Place::Port(5001)), false);
        let text = text(&environment);
        for entry in ["PATH=/a", "A=2", "PORT=5001", "HATCHERY_WORKER=p.1.2", "NOTIFY_SOCKET=/n"] {
            assert_eq!(text.iter().filter(|other| **other == entry).count(), 1, "{entry} in {text:?}");
        }
        assert_eq!(environment.path, b"/a");
        assert!(!text.contains(&"HATCHERY_WORKER=other"));
    }

    #[test]
    fn a_listener_at_3_comes_with_room_for_the_pid() {
        let environment = of(&inherited([]), &plan(&[]), "p.1.2", None, None, true);
        let entry = &environment.entries[environment.own_pid_entry.unwrap()];
        assert_eq!(entry.to_str().unwrap(), "LISTEN_PID=          ");
    }

    #[test]
    fn names_are_judged() {
        assert_eq!(check(b"GREETING", b"a=b"), Ok(()));
        assert_eq!(check(b"", b""), Err(NameError::Empty));
        assert_eq!(check(b"A=B", b""), Err(NameError::Malformed));
        assert_eq!(check(b"A", b"\0"), Err(NameError::Value));
        for reserved in ["PORT", "NOTIFY_SOCKET", "LISTEN_FDS", "HATCHERY_ENV"] {
            assert_eq!(check(reserved.as_bytes(), b""), Err(NameError::Reserved), "{reserved}");
        }
    }
}
