//! From when on another value of a setting holds.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    AtOnce,
    /// Workers keep what they were started with.
    NewWorkers,
    /// It is part of what an inspection finds.
    NextGeneration,
}

impl Holds {
    pub(super) fn said(self) -> Option<String> {
        match self {
            Self::AtOnce => None,
            Self::NewWorkers => Some("holds for workers started from now on".to_owned()),
            Self::NextGeneration => Some("holds from the next generation on: `restart` begins it".to_owned()),
        }
    }
}

/// `None`: there is no such key of an application.
pub(super) fn holds(key: &str) -> Option<Holds> {
    Some(match key {
        "max_per_app" | "min" | "prestart" | "max_queue" | "max_queue_wait" | "drain_timeout" | "stop_timeout"
        | "linger" | "max_idle" | "max_requests" | "max_lifetime" | "max_memory" | "max_request_time"
        | "ping_interval" | "ping_timeout" | "ping_failures" | "ping_path" | "breaker_failures" | "breaker_window"
        | "watch" | "quiet_period" | "watch_ignore" | "staged_update" | "tenant" => Holds::AtOnce,
        "concurrency" | "start_timeout" => Holds::NewWorkers,
        "dump_signal" | "update_gap" | "environment" | "user" | "group" | "lower_privilege" | "limit_nofile"
        | "limit_as" | "limit_data" | "limit_stack" | "limit_fsize" | "limit_core" | "limit_nproc" | "limit_cpu"
        | "nice" | "oom_score_adj" | "umask" | "no_new_privs" | "memory_max" | "cpu_max" | "pids_max" | "required" => {
            Holds::NextGeneration
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::options::AppOptions;

    #[test]
    fn of_every_key_it_is_known_when_it_holds() {
        for key in AppOptions::KEYS {
            assert!(holds(key.name).is_some(), "{}", key.name);
        }
        assert_eq!(holds("max"), None);
    }
}
