//! Orders of the operator, what is forgotten, and the end of a pool.

use super::{PLAIN, Scenario, Starts, number, workers_for};
use crate::settings::{Concurrency, Plan};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a stopped app refuses until it is started; its sessions end in peace",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            stop A
            refused s2: stopped
            worker of s1 is draining
            get A as s3
            refused s3: stopped
            finish s1
            count 0
            start A
            get A as s4
            granted s4",
        ..PLAIN
    },
    Scenario {
        name: "a disabled app refuses new sessions and keeps its workers",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            disable A
            get A as s2
            refused s2: disabled
            finish s1
            worker of s1 is ready
            enable A
            get A as s3
            granted s3 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "a removed app refuses its waiters, and is forgotten when its last session ends",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            add A
            get A as s1
            granted s1
            get A as s2
            waiting s2
            remove A
            refused s2: removed
            worker of s1 is draining
            finish s1
            count 0
            A is forgotten",
        ..PLAIN
    },
    Scenario {
        name: "an app that only a get made known is forgotten when nothing of it is left",
        behaviours: &[32],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            kill worker of s1
            s1 ended: worker gone
            A is forgotten
            get A as s2
            worker ready
            granted s2",
        ..PLAIN
    },
    Scenario {
        name: "a retired worker takes no new session and goes when its last one ends",
        behaviours: &[29, 33, 35],
        story: "
            get A as s1
            granted s1
            retire worker of s1
            worker of s1 is draining
            retire worker of s1
            get A as s2
            granted s2 on another worker than s1
            finish s1
            worker of s1 is gone
            count 1
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "the operator ends a session, and whoever waits is served by another worker",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            end s1
            s1 ended: operator
            worker of s1 is gone
            granted s2 on another worker than s1",
        ..PLAIN
    },
    Scenario {
        name: "the operator ends a session at a worker without a limit, which goes on",
        behaviours: &[],
        plan: Plan { concurrency: Concurrency::Unlimited, ..workers_for(1) },
        story: "
            get A as s1
            get A as s2
            granted s1
            granted s2 on the worker of s1
            end s1
            s1 ended: operator
            get A as s3
            granted s3 on the worker of s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a pool that is ending refuses, drains for its grace, and goes",
        behaviours: &[],
        story: "
            get A as s1
            get B as s2
            granted s1
            granted s2
            finish s2
            end the pool within 5 s
            worker of s2 is gone
            worker of s1 is draining
            get A as s3
            refused s3: shutting down
            finish s1
            count 0
            the pool has ended",
        ..PLAIN
    },
    Scenario {
        name: "a pool that is ending ends what is left when its grace is over",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            end the pool within 1 s
            pass 1 s
            s1 ended: pool ending
            count 0
            the pool has ended",
        ..PLAIN
    },
    Scenario {
        name: "without grace a pool ends everything at once, and kills after a second",
        behaviours: &[],
        real: false,
        story: "
            A is stubborn
            get A as s1
            granted s1
            end the pool within 0 s
            s1 ended: pool ending
            worker of s1 is stopping
            pass 1 s
            count 0
            the pool has ended",
        ..PLAIN
    },
];
