//! What can be said of one app.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of one app, each with a default. From the operator they are the app's limits; from a client they
/// hold from the first `get` of the app on, and in a privileged pool they may only narrow the operator's.
///
/// `..AppOptions::default()` leaves everything else as the pool has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOptions {
    /// Worker processes of this app at most; 0: no limit but the pool's.
    pub max_per_app: Option<u32>,
    /// Workers kept alive once the app was asked for.
    pub min: Option<u32>,
    /// An idle worker leaves after this; zero: never.
    pub max_idle: Option<Duration>,
    /// Sessions at once in one worker; 0: no limit.
    pub concurrency: Option<u32>,
    /// `get`s of this app that may wait.
    pub max_queue: Option<u32>,
    /// How long one may wait, from its arrival; zero: for ever.
    pub max_queue_wait: Option<Duration>,
    /// How long a worker may take to become ready.
    pub start_timeout: Option<Duration>,
    /// How long open sessions have when their worker is to leave.
    pub drain_timeout: Option<Duration>,
    /// How long a worker has after TERM before KILL.
    pub stop_timeout: Option<Duration>,
    /// How long an abandoned session may keep its slot while the worker finishes.
    pub linger: Option<Duration>,
    /// The environment's name, such as `production`: the worker's `HATCHERY_ENV`, `APP_ENV`, `RACK_ENV`,
    /// `RAILS_ENV` and `NODE_ENV`.
    pub environment: Option<String>,
    /// Further environment variables of the worker.
    pub env: Vec<(String, String)>,
    /// How it is started, if not as its `hatchery.toml` or its folder says.
    pub start: Option<Start>,
}

/// How an app is started, said from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// This program with these arguments, in place of the manifest's `command`.
    Command(Vec<String>),
    /// The demo app inside the `hatchery` executable.
    DemoApp,
}

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
        for (name, limit) in [("start_timeout", self.start_timeout), ("stop_timeout", self.stop_timeout)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(format!("{name} is 0: nothing can start or stop in no time"));
            }
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
    pub fn over(self, base: &Self) -> Self {
        let mut env = base.env.clone();
        env.extend(self.env);
        Self {
            max_per_app: self.max_per_app.or(base.max_per_app),
            min: self.min.or(base.min),
            max_idle: self.max_idle.or(base.max_idle),
            concurrency: self.concurrency.or(base.concurrency),
            max_queue: self.max_queue.or(base.max_queue),
            max_queue_wait: self.max_queue_wait.or(base.max_queue_wait),
            start_timeout: self.start_timeout.or(base.start_timeout),
            drain_timeout: self.drain_timeout.or(base.drain_timeout),
            stop_timeout: self.stop_timeout.or(base.stop_timeout),
            linger: self.linger.or(base.linger),
            environment: self.environment.or_else(|| base.environment.clone()),
            env,
            start: self.start.or_else(|| base.start.clone()),
        }
    }
}
