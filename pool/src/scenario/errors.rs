//! What goes wrong: starts, deaths, connections, full queues, long waits, and what is not allowed.

use super::{PLAIN, Scenario, Starts, number, seconds};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a start that fails is told to everybody who waits, and nothing is left",
        behaviours: &[62],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.defaults.breaker_failures) = (number(1), None),
        story: "
            get A as s1
            get A as s2
            waiting 2
            worker fails
            refused s1: spawn failed
            refused s2: spawn failed
            count 0
            A is forgotten
            get A as s3
            worker ready
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a root that can't be started as it is refuses everybody who waits, and the next get looks again",
        behaviours: &[62],
        real: false,
        story: "
            A can't be inspected
            get A as s1
            refused s1: spawn failed
            count 0
            get A as s2
            granted s2",
        ..PLAIN
    },
    Scenario {
        name: "an extra start that fails leaves the workers there are; only the get it was for is told",
        behaviours: &[63],
        starts: Starts::ByHand,
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            worker ready
            granted s1
            get A as s2
            get A as s3
            starting 1
            worker fails
            refused s2: spawn failed
            waiting s3
            worker of s1 is busy
            finish s1
            granted s3 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "a minimum isn't tried again after a failed start, until the next get",
        behaviours: &[64],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.min = 2,
        story: "
            get A as s1
            worker ready
            granted s1
            starting 1
            worker fails
            starting 0
            pass 10 s
            count 1
            finish s1
            get A as s2
            granted s2 on the worker of s1
            starting 1",
        ..PLAIN
    },
    Scenario {
        name: "a start that takes too long is killed, and told to those who wait",
        behaviours: &[72],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.start_timeout = seconds(2),
        story: "
            get A as s1
            pass 1 s
            waiting s1
            pass 1 s
            refused s1: spawn failed
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a full queue refuses the next get, and the others are served later",
        behaviours: &[65],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.defaults.max_queue) = (number(1), 3),
        story: "
            get A as s1
            get A as s2
            get A as s3
            get A as s4
            refused s4: queue full
            waiting 3
            worker ready
            granted s1
            finish s1
            granted s2
            finish s2
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "the queues of all apps together are bounded",
        behaviours: &[65],
        starts: Starts::ByHand,
        set: |settings| settings.max_queue_total = 2,
        story: "
            get A as s1
            get B as s2
            get C as s3
            refused s3: pool's queue full
            get A as s4
            refused s4: pool's queue full
            worker ready of A
            granted s1
            get C as s5
            waiting s5",
        ..PLAIN
    },
    Scenario {
        name: "a wait ends after its time, counted from its arrival",
        behaviours: &[],
        set: |settings| (settings.max, settings.defaults.max_queue_wait) = (number(1), Some(seconds(2))),
        story: "
            get A as s1
            granted s1
            get A as s2
            pass 1 s
            get A as s3
            pass 1 s
            refused s2: timed out
            waiting s3
            pass 1 s
            refused s3: timed out
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a worker's death ends its sessions, and those who wait are served by another",
        behaviours: &[40, 30],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            kill worker of s1
            s1 ended: worker gone
            worker of s1 is gone
            granted s2
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "an idle worker that died is not offered: the next get has a new one",
        behaviours: &[40],
        story: "
            get A as s1
            granted s1
            finish s1
            kill worker of s1
            worker of s1 is gone
            get A as s2
            granted s2 on another worker than s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a worker that refuses a connection is removed, and its get is served first by another",
        behaviours: &[40],
        real: false,
        story: "
            get A as s1
            granted s1
            finish s1
            A refuses connections
            get A as s2
            granted s2 on another worker than s1
            worker of s1 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a full backlog is a busy worker, not a dead one: another is tried",
        behaviours: &[40],
        real: false,
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s1
            pass 100 ms
            finish s2
            A has a full backlog
            get A as s3
            granted s3 on the worker of s1
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a get that no backlog has room for is tried again after a moment",
        behaviours: &[40],
        real: false,
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            finish s1
            A has a full backlog
            get A as s2
            get A as s3
            waiting s2
            waiting 2
            pass 10 ms
            granted s2 on the worker of s1
            waiting s3",
        ..PLAIN
    },
    Scenario {
        name: "a pool without descriptors says so, and blames no worker",
        behaviours: &[],
        real: false,
        story: "
            get A as s1
            granted s1
            finish s1
            A finds no descriptors
            get A as s2
            refused s2: overloaded
            worker of s1 is ready",
        ..PLAIN
    },
    Scenario {
        name: "a bounded pool serves roots under its folders and those registered, and no others",
        behaviours: &[],
        real: false,
        set: |settings| settings.bounded = true,
        story: "
            get A as s1
            granted s1
            get b as s2
            refused s2: not allowed
            add b
            get b as s3
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a bounded pool lets clients make an app smaller, never larger or different",
        behaviours: &[],
        real: false,
        set: |settings| settings.bounded = true,
        story: "
            get A as s1 wanting max_queue 1000
            refused s1: not allowed
            get A as s2 wanting linger 100 s
            refused s2: not allowed
            get A as s3 wanting start
            refused s3: not allowed
            count 0
            get A as s4 wanting max_queue 1
            granted s4",
        ..PLAIN
    },
    Scenario {
        name: "a client of a bounded pool lowers its limits, and raises them no further than the operator did",
        behaviours: &[],
        real: false,
        set: |settings| (settings.max, settings.bounded) = (number(2), true),
        story: "
            get A as s1
            set max 1
            get A as s2
            waiting s2
            set max 3
            waiting s2
            set max 2
            granted s2",
        ..PLAIN
    },
    Scenario {
        name: "a pool that trusts its clients lets them say more, at first sight",
        behaviours: &[],
        real: false,
        set: |settings| settings.max = number(1),
        story: "
            get a as s1 wanting max_queue 1
            granted s1
            get a as s2
            waiting s2
            get a as s3
            refused s3: queue full",
        ..PLAIN
    },
    Scenario {
        name: "a session that is over is unknown",
        behaviours: &[44],
        real: false,
        story: "
            get A as s1
            granted s1
            finish s1
            reconnect s1
            refused s1: unknown",
        ..PLAIN
    },
];
