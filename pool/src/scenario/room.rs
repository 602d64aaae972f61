//! Several apps in a full pool: whose worker makes room.

use super::{PLAIN, Scenario, Starts, number, seconds, workers_for};
use std::time::Duration;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "in a full pool the worker that has been idle longest makes room for another app",
        behaviours: &[18, 20, 24],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            get B as s2
            granted s1
            granted s2
            finish s1
            pass 100 ms
            finish s2
            get C as s3
            granted s3
            worker of s1 is gone
            worker of s2 is ready
            count 2
            get A as s4
            granted s4 on another worker than s1
            worker of s2 is gone
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a full pool with every worker busy makes a new app wait, until a session ends",
        behaviours: &[19, 24, 25],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            get A as s2
            granted s2
            get B as s3
            waiting s3
            count 2
            active 2
            count of B 0
            finish s1
            granted s3
            worker of s1 is gone
            count of A 1
            count of B 1",
        ..PLAIN
    },
    Scenario {
        name: "an app keeps its own idle worker and takes another's",
        behaviours: &[18],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            granted s1
            get B as s2
            granted s2
            finish s2
            get A as s3
            granted s3 on another worker than s1
            worker of s2 is gone
            worker of s1 is busy
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a worker that is starting for nobody makes room before an idle one",
        behaviours: &[22],
        starts: Starts::ByHand,
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            get B as s2
            starting 1
            cancel s2
            get C as s3
            worker of s1 is ready
            count of B 0
            count of C 1
            worker ready of C
            granted s3
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a worker that is starting for somebody serves them first, and then makes room",
        behaviours: &[23],
        starts: Starts::ByHand,
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            get B as s2
            waiting s2
            count of B 0
            worker ready of A
            granted s1
            waiting s2
            finish s1
            worker of s1 is gone
            worker ready of B
            granted s2
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "an app without a worker that has waited longer than is fair gets the room of a busy one",
        behaviours: &[19],
        set: |settings| (settings.max, settings.fair_wait) = (number(2), seconds(1)),
        story: "
            get A as s1
            granted s1
            pass 100 ms
            get A as s2
            granted s2
            get B as s3
            waiting s3
            worker of s1 is busy
            pass 1 s
            worker of s1 is draining
            worker of s2 is busy
            finish s1
            granted s3
            worker of s1 is gone
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "an app whose own waiter has waited longer is no victim of fairness",
        behaviours: &[],
        set: |settings| (settings.max, settings.fair_wait) = (number(1), seconds(1)),
        story: "
            get A as s1
            granted s1
            get A as s2
            pass 100 ms
            get B as s3
            pass 2 s
            worker of s1 is busy
            finish s1
            granted s2 on the worker of s1
            worker of s2 is draining
            finish s2
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a worker that has served for less than its app's last start took is no victim of fairness yet",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.fair_wait) = (number(1), seconds(1)),
        story: "
            get A as s1
            get B as s2
            pass 3 s
            worker ready of A
            granted s1
            pass 2 s
            worker of s1 is busy
            pass 1 s
            worker of s1 is draining",
        ..PLAIN
    },
    Scenario {
        name: "an app's hanging starts delay another app no longer than is fair",
        behaviours: &[72],
        starts: Starts::ByHand,
        set: |settings| (settings.max_starting, settings.fair_wait) = (number(2), seconds(1)),
        story: "
            get A as s1
            get A as s2
            get A as s3
            starting 2
            get B as s4
            count of B 0
            pass 1 s
            count of B 1
            worker ready of B
            granted s4
            waiting 3
            count of A 2",
        ..PLAIN
    },
    Scenario {
        name: "starts are shared fairly: an app that has none comes before one that has",
        behaviours: &[66],
        starts: Starts::ByHand,
        set: |settings| settings.max_starting = number(2),
        story: "
            get A as s1
            get A as s2
            get A as s3
            get B as s4
            count of A 2
            worker ready of A
            count of B 1
            worker ready of A
            count of A 3",
        ..PLAIN
    },
    Scenario {
        name: "a slot with several sessions is no reason for a second worker while there is room in the first",
        behaviours: &[],
        starts: Starts::ByHand,
        plan: workers_for(4),
        story: "
            get A as s1
            get A as s2
            get A as s3
            count 1
            worker ready
            granted s3 on the worker of s1
            active 1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "one waiter evicts one worker, however long that takes to leave",
        behaviours: &[18],
        set: |settings| settings.max = number(2),
        story: "
            A is stubborn
            get A as s1
            get A as s2
            granted s2
            finish s1
            pass 100 ms
            finish s2
            get B as s3
            worker of s1 is stopping
            pass 1 s
            worker of s2 is ready
            waiting s3
            pass 1 s
            granted s3
            worker of s2 is ready",
        ..PLAIN
    },
    Scenario {
        name: "an evicted worker that won't leave is killed after two seconds",
        behaviours: &[34],
        set: |settings| (settings.max, settings.evict_timeout) = (number(1), Duration::from_secs(2)),
        story: "
            A is stubborn
            get A as s1
            granted s1
            finish s1
            get B as s2
            worker of s1 is stopping
            waiting s2
            count 1
            pass 2 s
            worker of s1 is gone
            granted s2
            count 1",
        ..PLAIN
    },
];
