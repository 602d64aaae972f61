//! Where a configuration came from, so that the pool can read it again; and telling it to the pool that does.

use crate::cli::{AdminAt, Serve};
use crate::complain;
use crate::serve::plan::Plan;
use hatchery_pool_client::PoolConfig;
use hatchery_protocol::codec::encode_payload;
use hatchery_protocol::config::Source;
use hatchery_protocol::root::normalised;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

/// The verb that prints what `serve` with the same options tells its pool.
const VERB: &str = "configuration";
/// Marks of processes, not settings: whoever has them belongs to the pool that gave them.
const MARKS: [&str; 3] = ["HATCHERY_POOL", "HATCHERY_WORKER", "HATCHERY_ROOT"];

/// How the configuration that this process was started with is read again. `file`: the operator's.
pub(crate) fn own(here: &Path, file: Option<&Path>) -> Source {
    Source {
        arguments: arguments(std::env::args_os().skip(1)),
        env: std::env::vars_os()
            .filter(|(name, _)| is_setting(name))
            .map(|(k, v)| (k.into_vec(), v.into_vec()))
            .collect(),
        directory: here.as_os_str().as_bytes().to_vec(),
        files: file.map(|file| normalised(here, file).into_os_string().into_vec()).into_iter().collect(),
    }
}

/// What is said to `serve`, said to [`VERB`].
fn arguments(said: impl Iterator<Item = OsString>) -> Vec<Vec<u8>> {
    let mut arguments = vec![b"hatchery".to_vec()];
    let (mut verb_said, mut value_follows) = (false, false);
    for word in said {
        // Only --admin can stand before the verb.
        let is_option = word.as_bytes().starts_with(b"--");
        let is_verb = !verb_said && !value_follows && !is_option;
        value_follows = !verb_said && word == "--admin";
        verb_said |= is_verb;
        arguments.push(if is_verb { VERB.into() } else { word.into_vec() });
    }
    arguments
}

/// `HOME` is what `~` in a path means.
fn is_setting(name: &OsStr) -> bool {
    name == "HOME" || (name.as_bytes().starts_with(b"HATCHERY_") && !MARKS.iter().any(|mark| name == *mark))
}

/// `hatchery configuration`, which the pool runs to read its configuration again.
pub(crate) fn print(options: Serve, admin: Option<AdminAt>) -> ExitCode {
    let plan = match Plan::new(options, admin) {
        Ok(plan) => plan,
        Err(problem) => {
            // A line for each mistake: they are shown as they are.
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let written =
        encoded(&plan.config).and_then(|bytes| std::io::stdout().write_all(&bytes).map_err(|e| e.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(format_args!("the configuration can't be told: {problem}")),
    }
}

/// As in the sealed memfd that a pool is started with.
fn encoded(config: &PoolConfig) -> Result<Vec<u8>, String> {
    encode_payload(config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::codec::decode_payload;

    #[test]
    fn the_same_words_are_said_to_another_verb() {
        for (said, again) in [
            ("serve --config pool.toml -p 80", "hatchery configuration --config pool.toml -p 80"),
            ("--admin serve serve serve", "hatchery --admin serve configuration serve"),
            ("--admin=/run/a serve --app =serve", "hatchery --admin=/run/a configuration --app =serve"),
            ("configuration /srv/shop", "hatchery configuration /srv/shop"),
        ] {
            let words = arguments(said.split(' ').map(OsString::from));
            let again: Vec<Vec<u8>> = again.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(words, again, "{said}");
        }
    }

    #[test]
    fn marks_of_another_pool_are_no_settings() {
        for (name, setting) in [("HATCHERY_MAX", true), ("HOME", true), ("HATCHERY_POOL", false), ("PATH", false)] {
            assert_eq!(is_setting(OsStr::new(name)), setting, "{name}");
        }
    }

    #[test]
    fn what_is_told_is_what_a_pool_reads() {
        let config = PoolConfig {
            max: 17,
            source: Some(own(Path::new("/srv"), Some(Path::new("pool.toml")))),
            ..PoolConfig::default()
        };
        assert_eq!(decode_payload::<PoolConfig>(&encoded(&config).unwrap()).unwrap(), config);
    }
}
