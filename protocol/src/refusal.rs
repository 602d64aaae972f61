//! Why a question is not granted: one sentence each, that its reader can act on.

use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The report travels beside it.
    #[error("the application could not be started")]
    SpawnFailed,
    #[error("{limit} requests wait for {scope} already; try again later, or raise max_queue")]
    QueueFull { limit: u32, scope: Scope, retry_after: Duration },
    #[error("the application is disabled: {why}")]
    Disabled {
        /// When the pool tries again, from now.
        retry_after: Option<Duration>,
        why: String,
    },
    #[error("the application is stopped")]
    Stopped,
    #[error("the pool is out of descriptors or memory; raise its limit of open files, or lower its load")]
    Overloaded,
    #[error("the pool is shutting down")]
    ShuttingDown,
    #[error("no worker became free within {:.1} s; raise max, or max_queue_wait", waited.as_secs_f64())]
    TimedOut { waited: Duration },
    #[error("{0}")]
    NotAllowed(String),
    #[error("{0}")]
    Invalid(String),
}

/// Whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    App,
    Pool,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::App => "this application",
            Self::Pool => "the whole pool",
        })
    }
}

impl Refusal {
    /// The status a web server should answer with.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::SpawnFailed => 502,
            Self::QueueFull { .. } | Self::Disabled { .. } | Self::Stopped | Self::Overloaded | Self::ShuttingDown => {
                503
            }
            Self::TimedOut { .. } => 504,
            Self::NotAllowed(_) => 403,
            Self::Invalid(_) => 500,
        }
    }

    /// When to try again, if waiting can help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(*retry_after),
            Self::Disabled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
