//! What a pool is started with: the merged configuration of file, options and builder. It travels in a sealed
//! memfd as the first packet on the door, and keeper, core and spawner read the same bytes.

use crate::options::AppOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// Worker processes of all apps together. 0 is refused.
    pub max: u32,
    /// `get`s of all apps together that may wait.
    pub max_queue_total: u32,
    /// Workers that may be starting at the same time; `None`: the number of cores.
    pub max_starting: Option<u32>,
    /// How long open sessions have when the pool is told to go.
    pub drain_timeout: Duration,
    /// What an app gets that says nothing else.
    pub defaults: AppOptions,
    /// The apps that the operator registered.
    pub apps: Vec<AppConfig>,
    pub admin: Admin,
    pub log: LogConfig,
    /// Whether clients of a privileged pool may widen what the operator said.
    pub trust_clients: bool,
    /// Folders whose apps a privileged pool serves besides the registered ones. Absolute, normalised.
    pub apps_under: Vec<Vec<u8>>,
    /// The spawner executable; `None`: looked for beside the pool-server.
    pub spawner: Option<PathBuf>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max: 6,
            max_queue_total: 1000,
            max_starting: None,
            drain_timeout: Duration::from_secs(60),
            defaults: AppOptions::default(),
            apps: Vec::new(),
            admin: Admin::None,
            log: LogConfig::default(),
            trust_clients: false,
            apps_under: Vec::new(),
            spawner: None,
        }
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
