//! What can be said of one app.

use crate::keys::keys;
use crate::units::{Cores, Count, Level, List, Octal, Patience, SignalName, Size, Switch, Tally, Text, Time};
use serde::{Deserialize, Serialize};

keys! {
    /// Settings of one app, each with a default. From the operator they are the app's limits; from a client they
    /// hold from the first `get` of the app on, and in a privileged pool they may only narrow the operator's.
    ///
    /// `..AppOptions::default()` leaves everything else as the pool has it.
    pub struct AppOptions {
        /// Worker processes of this app at most; 0: no limit but the pool's `max`
        max_per_app: Count, "no limit", Lowered;
        /// Workers kept alive once the app was asked for
        min: Count, "0", Lowered;
        /// Keep `min` workers from the start, not only once the app was asked for
        prestart: Switch, "false", Operator;
        /// Sessions at once in one worker; 0: no limit but `max_sessions`
        concurrency: Count, "what the app says, else 1", Lowered;
        /// `get`s of this app that may wait
        max_queue: Count, "100", Lowered;
        /// How long one may wait, from its arrival; 0: for ever
        max_queue_wait: Time, "30s", Lowered;
        /// How long a worker may take to become ready
        start_timeout: Patience, "90s", Lowered;
        /// How long open sessions have when their worker is to leave
        drain_timeout: Patience, "60s", Lowered;
        /// How long a worker has after TERM before KILL
        stop_timeout: Patience, "10s", Lowered;
        /// How long an abandoned session may keep its slot while the worker finishes
        linger: Patience, "60s", Lowered;
        /// An idle worker leaves after this; 0: never
        max_idle: Time, "5m", Lowered;
        /// A worker is replaced after this many sessions; 0: never
        max_requests: Tally, "never", Lowered;
        /// A worker is replaced at this age; 0: never
        max_lifetime: Time, "never", Lowered;
        /// A worker is replaced when its process tree uses this much memory; 0: never
        max_memory: Size, "never", Lowered;
        /// A session is ended after this, and its worker leaves; 0: never
        max_request_time: Time, "never", Lowered;
        /// Ask each worker whether it lives this often; 0: never
        ping_interval: Time, "never", Operator;
        /// How long a worker may take to answer a ping
        ping_timeout: Patience, "5s", Operator;
        /// A worker is replaced after this many unanswered pings in a row
        ping_failures: Count, "3", Operator;
        /// The path an HTTP worker is asked for, and has to answer with a status below 500; without it, a worker is
        /// asked its protocol's harmless question (`OPTIONS *` for HTTP) again, as it was when it started
        ping_path: Text, "the question it answered when it started", Operator;
        /// Failed starts and crashes without a session that ended in peace between them, after which the app is
        /// disabled for a while; 0: never
        breaker_failures: Count, "5", Operator;
        /// The time within which they count
        breaker_window: Patience, "5m", Operator;
        /// Sent to a worker that is about to be killed, so that its runtime prints its stacks
        dump_signal: SignalName, "none", Operator;
        /// Restart the app when files below its root have changed
        watch: Switch, "false; true in development", Operator;
        /// How long nothing may change any more before changed files, or a staged update, are acted upon
        quiet_period: Patience, "10s; 1s in development", Operator;
        /// What is not watched, in the manner of `.gitignore`, besides version control, caches, logs and temporary files
        watch_ignore: List, "none", Operator;
        /// Take `NAME.update` beside the app's root as its next version once it is complete
        staged_update: Switch, "false; true without a pool.toml", Operator;
        /// Take it also where the file system can't exchange two folders, so that for a moment there is none
        update_gap: Switch, "false", Operator;
        /// The tenant it is counted with: one of the `[[tenant]]`s
        tenant: Text, "none", Operator;
        /// The environment's name: the worker's `HATCHERY_ENV`, `APP_ENV`, `RACK_ENV`, `RAILS_ENV` and `NODE_ENV`
        environment: Text, "production", Operator;
        /// The user its workers run as, if the pool is privileged
        user: Text, "the owner of the start file", Operator;
        /// Their group
        group: Text, "the user's own", Operator;
        /// `false`: workers of a privileged pool run as the pool was started
        lower_privilege: Switch, "true", Operator;
        /// Open descriptors of a worker
        limit_nofile: Tally, "as the pool was started", Lowered;
        /// Address space of a process of it
        limit_as: Size, "as the pool was started", Lowered;
        /// Data segment of a process of it
        limit_data: Size, "as the pool was started", Lowered;
        /// Stack of a process of it
        limit_stack: Size, "as the pool was started", Lowered;
        /// Largest file it may write
        limit_fsize: Size, "as the pool was started", Lowered;
        /// Largest core file
        limit_core: Size, "as the pool was started", Lowered;
        /// Processes of its user
        limit_nproc: Tally, "as the pool was started", Lowered;
        /// Processor time of a process of it, in seconds
        limit_cpu: Tally, "as the pool was started", Lowered;
        /// Its niceness, -20 to 19
        nice: Level, "as the pool was started", Operator;
        /// How likely the kernel kills it when memory is short, -1000 to 1000
        oom_score_adj: Level, "as the pool was started", Operator;
        /// The mask of the files it makes
        umask: Octal, "022", Operator;
        /// It can't gain privileges by executing other programs
        no_new_privs: Switch, "false", Operator;
        /// Memory of a worker's control group
        memory_max: Size, "none", Lowered;
        /// Processors of a worker's control group
        cpu_max: Cores, "none", Lowered;
        /// Processes in a worker's control group
        pids_max: Tally, "none", Lowered;
        /// Limits without which no worker is started, by key; the others are said once when they can't be applied
        required: List, "none", Operator;
    }
    also {
        /// Further environment variables of the worker.
        env: Vec<(String, String)>,
        /// How it is started, if not as its `hatchery.toml` or its folder says.
        start: Option<Start>,
    }
}

/// How an app is started, said from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// This program with these arguments, in place of the manifest's `command`.
    Command(Vec<String>),
    /// The demo app inside the `hatchery` executable.
    DemoApp,
}

/// What `required` may name.
pub const LIMITS: [&str; 15] = [
    "limit_nofile",
    "limit_as",
    "limit_data",
    "limit_stack",
    "limit_fsize",
    "limit_core",
    "limit_nproc",
    "limit_cpu",
    "nice",
    "oom_score_adj",
    "umask",
    "no_new_privs",
    "memory_max",
    "cpu_max",
    "pids_max",
];

impl AppOptions {
    /// Whether the values make sense, whoever said them.
    ///
    /// # Errors
    /// One sentence that names what doesn't.
    pub fn check(&self) -> Result<(), String> {
        if self.max_queue == Some(0) {
            return Err(
                "max_queue is 0: not even the get that starts the first worker could wait; 1 is the least".into()
            );
        }
        let times = [
            ("start_timeout", self.start_timeout),
            ("stop_timeout", self.stop_timeout),
            ("ping_timeout", self.ping_timeout),
            ("breaker_window", self.breaker_window),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_some_and(|time| time.is_zero())) {
            return Err(format!("{name} is 0: nothing can happen in no time"));
        }
        if self.ping_failures == Some(0) {
            return Err("ping_failures is 0: 1 is the least; ping_interval = \"never\" turns pings off".into());
        }
        if let Some(path) = self.ping_path.as_ref().filter(|path| !is_request_path(path)) {
            return Err(format!("ping_path is {path:?}: it has to begin with / and to have no blank"));
        }
        let ranges = [("nice", self.nice, -20, 19), ("oom_score_adj", self.oom_score_adj, -1000, 1000)];
        if let Some((name, _, least, most)) =
            ranges.iter().find(|(_, value, least, most)| value.is_some_and(|value| value < *least || value > *most))
        {
            return Err(format!("{name} is out of range: {least} to {most}"));
        }
        let strange = self.required.iter().flatten().find(|name| !LIMITS.contains(&name.as_str()));
        if let Some(name) = strange {
            return Err(format!("required names {name:?}, which is none of {}", LIMITS.join(", ")));
        }
        let unset = self.required.iter().flatten().find(|name| !self.sets(name));
        if let Some(name) = unset {
            return Err(format!("required names {name}, which is not set"));
        }
        match self
            .env
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            Some((name, _)) => Err(format!("env: {name:?} can't be an environment variable")),
            None => Ok(()),
        }
    }

    /// `self`, with what it leaves open taken from `base`. Environment variables of both, those of `self` last.
    #[must_use]
    pub fn over(mut self, base: &Self) -> Self {
        let mut env = base.env.clone();
        env.append(&mut self.env);
        let start = self.start.take().or_else(|| base.start.clone());
        Self { env, start, ..self.keys_over(base) }
    }
}

fn is_request_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}
