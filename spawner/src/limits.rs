//! What a worker may use: from the operator's settings to what its process does to itself before its program is
//! executed, and the sentences about what could not be done.

use crate::confine::{Limit, Step};
use hatchery_protocol::link::Limits;
use hatchery_protocol::options::AppOptions;
use std::io;

/// `RLIMIT_…` and the key of each.
const RLIMITS: [(u32, &str); 8] = [
    (libc::RLIMIT_NOFILE, "limit_nofile"),
    (libc::RLIMIT_AS, "limit_as"),
    (libc::RLIMIT_DATA, "limit_data"),
    (libc::RLIMIT_STACK, "limit_stack"),
    (libc::RLIMIT_FSIZE, "limit_fsize"),
    (libc::RLIMIT_CORE, "limit_core"),
    (libc::RLIMIT_NPROC, "limit_nproc"),
    (libc::RLIMIT_CPU, "limit_cpu"),
];

/// The limits that these settings say.
pub(crate) fn of(settings: &AppOptions) -> Limits {
    // A size of 0 is written `never` too, and means that there is no limit.
    let size = |said: Option<u64>| said.map(|bytes| if bytes == 0 { libc::RLIM_INFINITY } else { bytes });
    let values = [
        settings.limit_nofile,
        size(settings.limit_as),
        size(settings.limit_data),
        size(settings.limit_stack),
        size(settings.limit_fsize),
        // No core files at all is what people want of this one.
        settings.limit_core,
        settings.limit_nproc,
        settings.limit_cpu,
    ];
    let rlimits = RLIMITS.iter().zip(values);
    Limits {
        rlimits: rlimits.filter_map(|((resource, _), value)| Some((*resource, value?))).collect(),
        nice: settings.nice,
        oom_score_adj: settings.oom_score_adj,
        umask: settings.umask,
        no_new_privs: settings.no_new_privs == Some(true),
        memory_max: settings.memory_max.filter(|bytes| *bytes > 0),
        cpu_max: settings.cpu_max.filter(|cores| *cores > 0),
        pids_max: settings.pids_max,
        required: settings.required.clone().unwrap_or_default(),
    }
}

/// A limit, as its operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

impl Said {
    pub(crate) fn new(key: &'static str, value: impl ToString) -> Self {
        Self { key, value: value.to_string() }
    }

    /// The sentence for a limit that is merely wanted.
    pub(crate) fn missed(&self, why: &str) -> String {
        format!("{} = {} is not applied: {why}", self.key, self.value)
    }

    /// The sentence for one without which nothing is started.
    pub(crate) fn refused(&self, why: &str) -> String {
        format!("{} = {} is required and can't be applied: {why}", self.key, self.value)
    }
}

pub(crate) fn system(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

/// What the worker's process applies to itself, in this order; and what each is called. `no_new_privs` comes last:
/// it is applied once the process is whom it is to be.
pub(crate) fn steps(limits: &Limits) -> (Vec<Limit>, Vec<Said>) {
    let mut steps = Steps { required: &limits.required, limits: Vec::new(), said: Vec::new() };
    if let Some(adjustment) = limits.oom_score_adj {
        let text = adjustment.to_string().into_bytes();
        steps.add(Step::OomScoreAdj(text), Said::new("oom_score_adj", adjustment));
    }
    if let Some(nice) = limits.nice {
        steps.add(Step::Nice(nice), Said::new("nice", nice));
    }
    for (resource, value) in &limits.rlimits {
        let key = RLIMITS.iter().find(|(known, _)| known == resource).map_or("a limit of unknown kind", |(_, key)| key);
        let text = if *value == libc::RLIM_INFINITY { "never".to_owned() } else { value.to_string() };
        steps.add(Step::Rlimit { resource: *resource, value: *value }, Said::new(key, text));
    }
    if limits.no_new_privs {
        steps.add(Step::NoNewPrivs, Said::new("no_new_privs", true));
    }
    (steps.limits, steps.said)
}

struct Steps<'a> {
    required: &'a [String],
    limits: Vec<Limit>,
    said: Vec<Said>,
}

impl Steps<'_> {
    fn add(&mut self, step: Step, said: Said) {
        self.limits.push(Limit { step, required: is_required(self.required, said.key) });
        self.said.push(said);
    }
}

pub(crate) fn is_required(required: &[String], key: &str) -> bool {
    required.iter().any(|name| name == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_comes_from_its_key() {
        let settings = AppOptions {
            limit_nofile: Some(64),
            limit_as: Some(0),
            limit_core: Some(0),
            nice: Some(5),
            umask: Some(0o027),
            no_new_privs: Some(true),
            memory_max: Some(0),
            cpu_max: Some(1500),
            pids_max: Some(7),
            required: Some(vec!["nice".into()]),
            ..AppOptions::default()
        };
        let limits = of(&settings);
        assert_eq!(
            limits.rlimits,
            [(libc::RLIMIT_NOFILE, 64), (libc::RLIMIT_AS, libc::RLIM_INFINITY), (libc::RLIMIT_CORE, 0)]
        );
        assert_eq!((limits.nice, limits.umask, limits.no_new_privs), (Some(5), Some(0o027), true));
        assert_eq!((limits.memory_max, limits.cpu_max, limits.pids_max), (None, Some(1500), Some(7)));
        let (steps, said) = steps(&limits);
        let said: Vec<_> = said.iter().map(|said| (said.key, said.value.as_str())).collect();
        assert_eq!(
            said,
            [
                ("nice", "5"),
                ("limit_nofile", "64"),
                ("limit_as", "never"),
                ("limit_core", "0"),
                ("no_new_privs", "true")
            ]
        );
        assert_eq!(steps.iter().map(|limit| limit.required).collect::<Vec<_>>(), [true, false, false, false, false]);
        assert_eq!(of(&AppOptions::default()), Limits::default());
    }

    #[test]
    fn sentences_name_the_limit_its_value_and_the_error() {
        let said = Said::new("nice", -5);
        assert_eq!(said.missed(&system(libc::EACCES)), "nice = -5 is not applied: Permission denied (os error 13)");
        assert_eq!(
            said.refused(&system(libc::EPERM)),
            "nice = -5 is required and can't be applied: Operation not permitted (os error 1)"
        );
    }
}
