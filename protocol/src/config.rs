//! What a pool is started with: the merged configuration of file, options and builder. It travels in a sealed
//! memfd as the first packet on the door, and keeper, core and spawner read the same bytes.

use crate::keys::keys;
use crate::options::AppOptions;
use crate::root;
use crate::units::{Count, List, Patience, Size, Switch, Text, Time};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

keys! {
    /// Settings of the whole pool as its operator writes them. All are the operator's alone.
    pub struct PoolOptions {
        /// Where to listen: ADDRESS:PORT, :PORT (every address) or unix:PATH
        listen: List, "127.0.0.1:8080", Operator;
        /// The admin socket: its path, or `none`
        admin: Text, "admin.sock in the folder for it", Operator;
        /// Who is in this group may say everything on the admin socket
        admin_group: Text, "none", Operator;
        /// Who is in this group may look at everything on the admin socket, and change nothing
        admin_readers: Text, "none", Operator;
        /// The user whom an application runs as may look at it, restart it and read its output on the admin socket
        admin_owners: Switch, "false", Operator;
        /// Where metrics, health and the live page are served: PORT (of 127.0.0.1), ADDRESS:PORT, unix:PATH or `none`
        admin_http: Text, "none", Operator;
        /// The live page may restart, stop and end what it shows
        admin_http_actions: Switch, "false", Operator;
        /// Names by which `admin_http` may be asked for, besides addresses, localhost and this machine's own name
        admin_http_hosts: List, "none", Operator;
        /// Worker processes of all apps together
        max: Count, "6", Operator;
        /// How far above `max` a replacement may go
        surge: Count, "1", Operator;
        /// `get`s of all apps together that may wait
        max_queue_total: Count, "1000", Operator;
        /// Workers that may be starting at the same time
        max_starting: Count, "the number of cores", Operator;
        /// Preloaders of all apps together: processes that have an app loaded, for its workers to fork from; 0: none
        max_preloaders: Count, "as `max`", Operator;
        /// A preloader that no worker was forked from for this long leaves; 0: never
        max_preloader_idle: Time, "5m", Operator;
        /// How long an app without a worker waits before a busy worker of another app is drained for it
        fair_wait: Patience, "1s", Operator;
        /// How long an evicted (idle) worker has after TERM before KILL
        evict_timeout: Patience, "2s", Operator;
        /// Sessions at once in one worker of an app without a limit of its own
        max_sessions: Count, "1000", Operator;
        /// Write the log to this file, not to standard error
        log_file: Text, "standard error", Operator;
        /// How a line of the log looks: `text` or `json`
        log_format: Text, "text", Operator;
        /// Write the output of each app to a file of its own in this folder, not to the log
        output_dir: Text, "the log", Operator;
        /// An app's output file is begun anew at this size
        output_max_size: Size, "10M", Operator;
        /// Output files kept of each app, the present one included
        output_files: Count, "5", Operator;
        /// Remember in this folder which apps were added, removed, stopped or disabled on the live pool
        state_dir: Text, "none: forgotten at the end", Operator;
        /// The user that core and web server run as, if the pool is privileged
        pool_user: Text, "`hatchery` if there is one, else an unused user id", Operator;
        /// The user of apps that belong to root or to nobody known, if the pool is privileged
        lowest_user: Text, "nobody", Operator;
        /// No app runs as a user with a lower id, but for `lowest_user`
        min_uid: Count, "100", Operator;
        /// Clients may widen what the operator said
        trust_clients: Switch, "false", Operator;
        /// Folders whose apps a privileged pool serves besides the registered ones
        apps_under: List, "none", Operator;
        /// The control group (version 2) below which each worker gets its own
        cgroup: Text, "the pool's own, where that can have some", Operator;
    }
    also {}
}

keys! {
    /// What applications of one tenant have in common.
    pub struct TenantOptions {
        /// Worker processes of all its applications together; 0: no limit but the pool's `max`
        max: Count, "no limit", Operator;
        /// Memory of all its workers together: beyond it idle ones leave, none is started, and the largest is drained; 0: no limit
        max_memory: Size, "no limit", Operator;
        /// The user its applications run as, where they say none of their own
        user: Text, "as [defaults] says", Operator;
        /// Their group
        group: Text, "as [defaults] says", Operator;
    }
    also {}
}

/// What keeper, core and spawner know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// Worker processes of all apps together. 0 is refused.
    pub max: u32,
    /// How far above `max` a replacement may go.
    pub surge: u32,
    /// `get`s of all apps together that may wait.
    pub max_queue_total: u32,
    /// Workers that may be starting at the same time; `None`: the number of cores.
    pub max_starting: Option<u32>,
    /// Preloaders of all apps together; `None`: as many as `max`.
    pub max_preloaders: Option<u32>,
    /// How long one stays that no worker is forked from; zero: for ever.
    pub max_preloader_idle: Duration,
    /// How long an app without a worker waits before a busy worker of another app is drained for it.
    pub fair_wait: Duration,
    /// How long an evicted (idle) worker has after TERM before KILL.
    pub evict_timeout: Duration,
    /// Sessions at once in one worker of an app without a limit of its own.
    pub max_sessions: u32,
    /// How long open sessions have when the pool is told to go.
    pub drain_timeout: Duration,
    /// What an app gets that says nothing else.
    pub defaults: AppOptions,
    /// The apps that the operator registered.
    pub apps: Vec<AppConfig>,
    /// The tenants that apps may belong to.
    pub tenants: Vec<TenantConfig>,
    pub admin: Admin,
    pub admin_access: AdminAccess,
    pub log: LogConfig,
    pub output: OutputConfig,
    /// Where it is remembered which apps were added, removed, stopped or disabled; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The user that the core drops to, if the pool is privileged; `None`: `hatchery` if there is one, else an
    /// unused user id.
    pub pool_user: Option<String>,
    /// The user of apps that belong to root or to nobody known.
    pub lowest_user: String,
    /// No app runs as a user with a lower id, but for `lowest_user`.
    pub min_uid: u32,
    /// Whether clients of a privileged pool may widen what the operator said.
    pub trust_clients: bool,
    /// Folders whose apps a privileged pool serves besides the registered ones. Absolute, normalised.
    pub apps_under: Vec<Vec<u8>>,
    /// The control group (version 2) below which each worker gets its own: a path in the file system.
    pub cgroup: Option<PathBuf>,
    /// The spawner executable; `None`: looked for beside the pool-server.
    pub spawner: Option<PathBuf>,
    /// How this configuration can be read again; `None`: it can't.
    pub source: Option<Source>,
}

/// What tells where a configuration came from: the pool-server executes itself with these arguments, and gets it
/// on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub arguments: Vec<Vec<u8>>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub directory: Vec<u8>,
    /// What it is read from, as absolute paths. A privileged pool reads it again only if nobody but root can change
    /// these files or put others in their place.
    pub files: Vec<Vec<u8>>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max: 6,
            surge: 1,
            max_queue_total: 1000,
            max_starting: None,
            max_preloaders: None,
            max_preloader_idle: Duration::from_secs(300),
            fair_wait: Duration::from_secs(1),
            evict_timeout: Duration::from_secs(2),
            max_sessions: 1000,
            drain_timeout: Duration::from_secs(60),
            defaults: AppOptions::default(),
            apps: Vec::new(),
            tenants: Vec::new(),
            admin: Admin::None,
            admin_access: AdminAccess::default(),
            log: LogConfig::default(),
            output: OutputConfig::default(),
            state_dir: None,
            pool_user: None,
            lowest_user: "nobody".to_owned(),
            min_uid: 100,
            trust_clients: false,
            apps_under: Vec::new(),
            cgroup: None,
            spawner: None,
            source: None,
        }
    }
}

/// What a privileged pool does not serve, or not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the root is neither registered nor under apps_under")]
pub struct NotServed;

impl PoolConfig {
    /// The settings that an app is inspected and started with, whatever a client or the core says of it. In a
    /// privileged pool without `trust_clients` they are the operator's alone; else `asked` holds.
    ///
    /// # Errors
    /// When a privileged pool does not serve this root.
    pub fn settings_of(&self, root: &[u8], asked: AppOptions, privileged: bool) -> Result<AppOptions, NotServed> {
        if !privileged || self.trust_clients {
            return Ok(asked);
        }
        if let Some(app) = self.apps.iter().find(|app| app.root == root) {
            return Ok(app.options.clone().over(&self.defaults));
        }
        if self.apps_under.iter().any(|folder| root::is_below(root, folder)) {
            return Ok(self.defaults.clone());
        }
        Err(NotServed)
    }
}

/// Where the output of apps goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputConfig {
    /// A file for each app in this folder; `None`: the pool's log.
    pub folder: Option<PathBuf>,
    /// A file is begun anew at this size.
    pub max_size: u64,
    /// Files kept of each app, the present one included.
    pub files: u32,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { folder: None, max_size: 10 << 20, files: 5 }
    }
}

/// One app of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppConfig {
    /// Absolute and normalised.
    pub root: Vec<u8>,
    /// `None`: the last part of the root.
    pub name: Option<String>,
    pub options: AppOptions,
}

/// One tenant. What its apps run as is merged into their options before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantConfig {
    pub name: String,
    pub options: TenantOptions,
}

/// Who may use the admin socket besides the pool's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAccess {
    /// This group may say everything.
    pub group: Option<String>,
    /// This group may look.
    pub readers: Option<String>,
    /// Owners of apps may look at their own, restart them and read what they print.
    pub owners: bool,
}

/// Where the admin socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admin {
    #[default]
    None,
    /// `admin.sock` in the folder for it (`$XDG_RUNTIME_DIR/hatchery`, `/run/hatchery`, `/tmp/hatchery-UID`);
    /// `admin-PID.sock` when a live pool has that one.
    DefaultPlace,
    At(PathBuf),
}

/// Where the pool's log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `None`: standard error.
    pub file: Option<PathBuf>,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}
