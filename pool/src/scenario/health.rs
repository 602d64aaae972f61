//! Pings: who doesn't answer is replaced.

use super::{PLAIN, Scenario, number, seconds};
use crate::settings::Settings;
use std::time::Duration;

/// A ping every two seconds, which is missed after a half.
fn pinged(settings: &mut Settings) {
    settings.defaults.ping_interval = Some(seconds(2));
    settings.defaults.ping_timeout = Duration::from_millis(500);
    settings.defaults.ping_failures = number(2);
    settings.defaults.stop_timeout = seconds(1);
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a worker that answers no ping is replaced first, then told to leave, and killed",
        behaviours: &[],
        set: pinged,
        story: "
            get A as s1
            granted s1
            finish s1
            worker of s1 hangs
            pass 3 s
            worker of s1 is ready
            pass 2 s
            get A as s2
            granted s2 on another worker than s1
            pass 2 s
            worker of s1 is gone
            worker of s1 was recorded
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "an answered ping forgets the missed ones",
        behaviours: &[],
        real: false,
        set: pinged,
        story: "
            get A as s1
            granted s1
            finish s1
            worker of s1 hangs
            pass 4 s
            worker of s1 goes on
            pass 4 s
            worker of s1 hangs
            pass 2 s
            worker of s1 goes on
            pass 20 s
            worker of s1 is ready
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a worker without a free slot is not pinged: who is busy lives",
        behaviours: &[],
        set: pinged,
        story: "
            get A as s1
            granted s1
            worker of s1 hangs
            pass 6 s
            worker of s1 is busy
            worker of s1 goes on
            finish s1
            worker of s1 is ready
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a ping takes a slot, and gives it back when its time is over",
        behaviours: &[],
        real: false,
        set: |settings| {
            pinged(settings);
            settings.max = number(1);
        },
        story: "
            get A as s1
            granted s1
            finish s1
            worker of s1 hangs
            pass 2 s
            get A as s2
            waiting s2
            active 0
            pass 500 ms
            granted s2 on the worker of s1",
        ..PLAIN
    },
];
