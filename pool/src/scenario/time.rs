//! The time of one session.

use super::{PLAIN, Scenario, seconds, workers_for};
use std::time::Duration;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a session that has had its time is ended, and its worker drains",
        behaviours: &[129],
        plan: workers_for(2),
        set: |settings| settings.defaults.max_request_time = Some(seconds(4)),
        story: "
            get A as s1
            granted s1
            pass 2 s
            get A as s2
            granted s2 on the worker of s1
            pass 2 s
            s1 ended: request timed out
            worker of s1 is draining
            get A as s3
            granted s3 on another worker than s1
            finish s2
            worker of s1 is gone
            worker of s1 was recorded
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "beside a session that had its time, others have the drain time",
        behaviours: &[33, 129],
        plan: workers_for(2),
        set: |settings| {
            settings.defaults.max_request_time = Some(seconds(4));
            settings.defaults.drain_timeout = Duration::from_millis(500);
        },
        story: "
            get A as s1
            granted s1
            pass 2 s
            get A as s2
            granted s2 on the worker of s1
            pass 2 s
            s1 ended: request timed out
            pass 500 ms
            s2 ended: drain timed out
            worker of s1 is gone",
        ..PLAIN
    },
    Scenario {
        name: "a session that reconnects has no more time than before",
        behaviours: &[],
        real: false,
        set: |settings| settings.defaults.max_request_time = Some(seconds(2)),
        story: "
            get A as s1
            granted s1
            pass 1 s
            reconnect s1
            granted s1 freshly
            pass 1 s
            s1 ended: request timed out",
        ..PLAIN
    },
    Scenario {
        name: "the next session on a kept connection has its own time",
        behaviours: &[],
        set: |settings| settings.defaults.max_request_time = Some(seconds(4)),
        story: "
            get A as s1
            granted s1
            pass 1 s
            keep s1
            pass 500 ms
            get A as s2
            granted s2 on the lease of s1
            pass 3 s
            worker of s2 is busy
            pass 1 s
            s2 ended: request timed out",
        ..PLAIN
    },
];
