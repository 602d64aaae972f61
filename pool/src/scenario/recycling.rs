//! Workers that have done enough: requests, age, memory.

use super::{PLAIN, Scenario, Starts, number, seconds};
use std::num::NonZeroU64;

const TWICE: Option<NonZeroU64> = NonZeroU64::new(2);

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "after so many sessions a worker is replaced: the new one is ready before the old one leaves",
        behaviours: &[41],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.max_requests = TWICE,
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            starting 0
            get A as s2
            granted s2 on the worker of s1
            starting 1
            finish s2
            worker of s1 is ready
            get A as s3
            granted s3 on the worker of s1
            finish s3
            worker ready
            worker of s1 is gone
            worker of s1 was not recorded
            count 1
            get A as s4
            granted s4 on another worker than s1",
        ..PLAIN
    },
    Scenario {
        name: "a worker that is busy when its replacement is ready drains, and its session ends in peace",
        behaviours: &[41],
        set: |settings| settings.defaults.max_requests = TWICE,
        story: "
            get A as s1
            granted s1
            finish s1
            get A as s2
            granted s2 on the worker of s1
            worker of s2 is draining
            get A as s3
            granted s3 on another worker than s1
            count 2
            finish s2
            worker of s2 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a replacement goes beyond max by the surge, and the count comes back",
        behaviours: &[41],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.defaults.max_requests) = (number(1), TWICE),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get A as s2
            granted s2 on the worker of s1
            count 2
            starting 1
            get A as s3
            waiting s3
            count 2
            worker ready
            granted s3 on another worker than s2
            worker of s2 is draining
            count 2
            finish s2
            worker of s2 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a replacement goes beyond its app's own limit by the surge",
        behaviours: &[41],
        starts: Starts::ByHand,
        set: |settings| {
            settings.defaults.max_per_app = Some(number(1));
            settings.defaults.max_requests = TWICE;
        },
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get A as s2
            granted s2
            get A as s3
            waiting s3
            count of A 2
            worker ready
            granted s3 on another worker than s2
            worker of s2 is draining
            get A as s4
            waiting s4
            count of A 2
            finish s2
            count of A 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge and room the old worker leaves first, and waiters are served by the new one",
        behaviours: &[41],
        set: |settings| (settings.max, settings.surge, settings.defaults.max_requests) = (number(1), 0, TWICE),
        story: "
            get A as s1
            granted s1
            finish s1
            get A as s2
            granted s2 on the worker of s1
            worker of s2 is draining
            get A as s3
            waiting s3
            count 1
            finish s2
            worker of s2 is gone
            granted s3
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge but with room the new worker still comes first",
        behaviours: &[41],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.surge, settings.defaults.max_requests) = (number(2), 0, TWICE),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get A as s2
            granted s2
            finish s2
            worker of s2 is ready
            starting 1
            worker ready
            worker of s2 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge and room one worker of an app leaves at a time",
        behaviours: &[41],
        set: |settings| (settings.max, settings.surge, settings.defaults.max_requests) = (number(2), 0, TWICE),
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s1
            finish s2
            get A as s3
            get A as s4
            granted s4
            worker of s3 is draining
            worker of s4 is busy
            pass 1 s
            worker of s4 is busy
            finish s3
            worker of s3 is gone
            worker of s4 is draining
            finish s4
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a replacement that can't be started leaves the old worker serving, and is tried again later",
        behaviours: &[41, 63],
        starts: Starts::ByHand,
        set: |settings| {
            settings.defaults.max_requests = TWICE;
            settings.defaults.breaker_failures = Some(number(1));
        },
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get A as s2
            granted s2
            finish s2
            starting 1
            worker fails
            worker of s1 is ready
            starting 0
            A is not disabled
            get A as s3
            granted s3 on the worker of s1
            finish s3
            pass 4 s
            starting 0
            pass 1 s
            starting 1
            worker ready
            worker of s1 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a worker that is drained for another app gives up its place: its replacement leaves too",
        behaviours: &[19],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.defaults.max_requests) = (number(1), TWICE),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get A as s2
            granted s2
            starting 1
            get B as s3
            pass 100 ms
            get A as s4
            waiting 2
            pass 1 s
            worker of s2 is draining
            starting 0
            finish s2
            count of A 0
            worker ready of B
            granted s3
            waiting s4",
        ..PLAIN
    },
    Scenario {
        name: "an app that nobody uses goes with its idle time, however often its worker is renewed",
        behaviours: &[37],
        set: |settings| {
            settings.defaults.max_lifetime = Some(seconds(2));
            settings.defaults.max_idle = Some(seconds(5));
        },
        story: "
            get A as s1
            granted s1
            finish s1
            pass 3 s
            worker of s1 is gone
            count 1
            pass 2 s
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a worker is replaced at its age, or up to a tenth before",
        behaviours: &[],
        set: |settings| settings.defaults.max_lifetime = Some(seconds(5)),
        story: "
            get A as s1
            granted s1
            finish s1
            pass 3 s
            worker of s1 is ready
            pass 2 s
            worker of s1 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "workers of one age don't leave together",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        set: |settings| settings.defaults.max_lifetime = Some(seconds(100)),
        story: "
            get A as s1
            get A as s2
            worker ready
            worker ready
            granted s2
            finish s1
            finish s2
            pass 96 s
            starting 0
            pass 1 s
            starting 1
            worker ready
            worker of s1 is gone
            worker of s2 is ready
            pass 1 s
            starting 0
            pass 1 s
            starting 1",
        ..PLAIN
    },
    Scenario {
        name: "three measurements in a row that are too much are a leak",
        behaviours: &[],
        real: false,
        set: |settings| settings.defaults.max_memory = NonZeroU64::new(1000),
        story: "
            get A as s1
            granted s1
            finish s1
            worker of s1 uses 2000
            pass 5 s
            worker of s1 is ready
            pass 1 s
            worker of s1 is ready
            pass 1 s
            worker of s1 is gone
            worker of s1 was recorded
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a peak is no leak",
        behaviours: &[],
        real: false,
        set: |settings| settings.defaults.max_memory = NonZeroU64::new(1000),
        story: "
            get A as s1
            granted s1
            finish s1
            worker of s1 uses 2000
            pass 5 s
            pass 1 s
            worker of s1 uses 999
            pass 3 s
            worker of s1 uses 2000
            pass 5 s
            worker of s1 uses 999
            pass 60 s
            worker of s1 is ready
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "of several workers that use too much the largest is replaced first",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        set: |settings| {
            settings.max_starting = number(1);
            settings.defaults.max_memory = NonZeroU64::new(1000);
        },
        story: "
            get A as s1
            worker ready
            get A as s2
            worker ready
            granted s2
            finish s1
            finish s2
            worker of s1 uses 2000
            worker of s2 uses 3000
            get B as s3
            starting 1
            pass 8 s
            count of A 2
            worker ready of B
            count of A 3
            worker ready of A
            worker of s2 is gone
            worker of s1 is ready
            worker ready of A
            worker of s1 is gone
            count of A 2",
        ..PLAIN
    },
];
