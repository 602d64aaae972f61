//! What a pool is started with.

use crate::error::StartError;
use crate::server::PoolServer;
use hatchery_protocol::config::{Admin, AppConfig, LogFormat, PoolConfig};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::root;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a new pool, each with a default; [`start`](Builder::start) starts it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    pub(crate) executable: Option<PathBuf>,
    pub(crate) config: PoolConfig,
}

impl Builder {
    /// The executable, in place of a search: a `pool-server`, or a `hatchery`, which is told its role. A program that
    /// plays the role itself, when its first argument is `pool-server`, names `/proc/self/exe`.
    pub fn pool_server(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = Some(path.into());
        self
    }

    /// The spawner's executable, if it is not beside the pool-server.
    pub fn spawner(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.spawner = Some(path.into());
        self
    }

    /// Worker processes of all apps together, at most; 6 unless said. 0 is refused.
    pub fn max(mut self, max: u32) -> Self {
        self.config.max = max;
        self
    }

    /// Worker processes of one app, at most; 0: no limit but the pool's.
    pub fn max_per_app(mut self, max_per_app: u32) -> Self {
        self.config.defaults.max_per_app = Some(max_per_app);
        self
    }

    /// An idle worker leaves after this; zero: never.
    pub fn max_idle(mut self, max_idle: Duration) -> Self {
        self.config.defaults.max_idle = Some(max_idle);
        self
    }

    /// Workers of each app that are kept alive once it was asked for.
    pub fn min(mut self, min: u32) -> Self {
        self.config.defaults.min = Some(min);
        self
    }

    /// `get`s of one app that may wait.
    pub fn max_queue(mut self, max_queue: u32) -> Self {
        self.config.defaults.max_queue = Some(max_queue);
        self
    }

    /// How long one may wait; zero: for ever.
    pub fn max_queue_wait(mut self, max_queue_wait: Duration) -> Self {
        self.config.defaults.max_queue_wait = Some(max_queue_wait);
        self
    }

    /// How long open sessions have when the pool is told to go.
    pub fn drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.config.drain_timeout = drain_timeout;
        self
    }

    /// Sessions at once in one worker; 0: no limit.
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.config.defaults.concurrency = Some(concurrency);
        self
    }

    /// The environment's name, such as `production`.
    pub fn environment(mut self, environment: &str) -> Self {
        self.config.defaults.environment = Some(environment.into());
        self
    }

    /// A further environment variable of all workers.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.defaults.env.push((key.into(), value.into()));
        self
    }

    /// Where the pool's log goes, if not to standard error.
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.log.file = Some(path.into());
        self
    }

    /// What a line of the log looks like.
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.config.log.format = format;
        self
    }

    /// Where the admin socket is. Without this there is none.
    pub fn admin(mut self, admin: Admin) -> Self {
        self.config.admin = admin;
        self
    }

    /// Lets clients of a privileged pool widen what is said here.
    pub fn trust_clients(mut self, trust_clients: bool) -> Self {
        self.config.trust_clients = trust_clients;
        self
    }

    /// A folder whose apps a privileged pool serves besides the registered ones.
    pub fn apps_under(mut self, path: impl AsRef<Path>) -> Self {
        self.config.apps_under.push(path.as_ref().as_os_str().as_bytes().to_vec());
        self
    }

    /// Registers an app.
    pub fn app(mut self, app: AppConfig) -> Self {
        self.config.apps.push(app);
        self
    }

    /// What an app gets that says nothing else. Replaces what was said of that before.
    pub fn defaults(mut self, defaults: AppOptions) -> Self {
        self.config.defaults = defaults;
        self
    }

    /// All settings at once. Replaces what was said before, bar the executable.
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts the pool, and waits the few milliseconds until it is there. The process that is started has nothing
    /// to do with this one's children: it is nobody's child here once this returns.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(self) -> Result<PoolServer, StartError> {
        PoolServer::start(self.checked()?)
    }

    /// What can be told to be wrong without a pool.
    pub(crate) fn checked(mut self) -> Result<Self, StartError> {
        if self.config.max == 0 {
            return Err(StartError::Invalid("max is 0: a pool without workers serves nobody; 1 is the least".into()));
        }
        for name in self.config.apps.iter_mut().map(|app| &mut app.root).chain(&mut self.config.apps_under) {
            *name = root::name(Path::new(OsStr::from_bytes(name)))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_without_workers_is_refused() {
        let error = Builder::default().max(0).start().unwrap_err();
        assert!(error.to_string().contains("max is 0"), "{error}");
        assert!(!error.is_retryable());
    }

    #[test]
    fn folders_are_normalised() {
        let app = AppConfig { root: b"/srv//shop/".to_vec(), name: None, options: AppOptions::default() };
        let builder = Builder::default().app(app).apps_under("/srv/./apps").checked().unwrap();
        assert_eq!(builder.config.apps[0].root, b"/srv/shop");
        assert_eq!(builder.config.apps_under, [b"/srv/apps".to_vec()]);
    }
}
