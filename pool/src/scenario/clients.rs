//! What clients do: leases, cancelled gets, abandoned sessions, death.

use super::{PLAIN, Scenario, Starts, number, seconds, workers_for};
use crate::settings::{Parking, Plan};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a client's next session uses the connection it kept",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            keep s1
            active 0
            get A as s2
            granted s2 on the lease of s1
            active 1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a lease keeps its slot from nobody: it ends when another client needs the slot",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1 by client 1
            granted s1
            keep s1
            get A as s2 by client 2
            s1 ended: lease ended
            granted s2 on the worker of s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a free slot is taken before another client's lease",
        behaviours: &[],
        plan: workers_for(2),
        story: "
            get A as s1 by client 1
            granted s1
            keep s1
            get A as s2 by client 2
            granted s2 on the worker of s1
            get A as s3 by client 1
            granted s3 on the lease of s1",
        ..PLAIN
    },
    Scenario {
        name: "of several leases of others the one parked longest ends",
        behaviours: &[],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1 by client 1
            get A as s2 by client 1
            granted s2
            keep s2
            pass 100 ms
            keep s1
            get A as s3 by client 2
            s2 ended: lease ended
            granted s3 on the worker of s2
            get A as s4 by client 1
            granted s4 on the lease of s1",
        ..PLAIN
    },
    Scenario {
        name: "a session that is kept while somebody else waits serves them",
        behaviours: &[16],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1 by client 1
            granted s1
            get A as s2 by client 2
            waiting s2
            keep s1
            s1 ended: lease ended
            granted s2 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "a session that is kept while its own client waits serves that wait on the same connection",
        behaviours: &[16],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            waiting s2
            keep s1
            granted s2 on the lease of s1",
        ..PLAIN
    },
    Scenario {
        name: "a lease ends after its parking time",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            keep s1
            pass 1 s
            get A as s2
            granted s2 on the lease of s1
            keep s2
            pass 1 s
            pass 500 ms
            s2 ended: lease ended
            get A as s3
            granted s3 freshly",
        ..PLAIN
    },
    Scenario {
        name: "our own loaders' connections stay parked for ever",
        behaviours: &[],
        real: false,
        plan: Plan { parking: Parking::Unlimited, ..workers_for(1) },
        story: "
            get A as s1
            granted s1
            keep s1
            pass 100 s
            get A as s2
            granted s2 on the lease of s1",
        ..PLAIN
    },
    Scenario {
        name: "a protocol that ends its connection with each session has no leases",
        behaviours: &[],
        real: false,
        plan: Plan { parking: Parking::Never, ..workers_for(1) },
        story: "
            get A as s1
            granted s1
            keep s1
            active 0
            get A as s2
            granted s2 freshly",
        ..PLAIN
    },
    Scenario {
        name: "a client that drops its parked connection frees the slot",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1 by client 1
            granted s1
            keep s1
            finish s1
            get A as s2 by client 2
            granted s2 on the worker of s1
            get A as s3 by client 1
            waiting s3",
        ..PLAIN
    },
    Scenario {
        name: "a session whose parked connection is dead gets a fresh one at the same worker",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            keep s1
            get A as s2
            granted s2 on the lease of s1
            reconnect s2
            granted s2 freshly
            granted s2 on the worker of s1
            active 1
            count 1
            finish s2
            active 0",
        ..PLAIN
    },
    Scenario {
        name: "a cancelled get leaves the queue, and the next one is served in its place",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            get A as s3
            waiting 2
            cancel s2
            waiting 1
            finish s1
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a get that was answered when its cancel comes stays its client's to close",
        behaviours: &[],
        real: false,
        story: "
            get A as s1
            granted s1
            cancel s1
            active 1
            finish s1
            active 0",
        ..PLAIN
    },
    Scenario {
        name: "an abandoned session keeps its slot while the worker computes for nobody, and then frees it",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            abandon s1
            waiting s2
            active 1
            worker of s1 is done
            granted s2 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "a worker that never finishes an abandoned session is replaced after a while",
        behaviours: &[],
        set: |settings| (settings.max, settings.defaults.linger) = (number(1), seconds(2)),
        story: "
            get A as s1
            granted s1
            get A as s2
            abandon s1
            pass 1 s
            waiting s2
            pass 1 s
            worker of s1 is gone
            granted s2
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "with a client everything of its own ends: waits, leases and sessions",
        behaviours: &[],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1 by client 1
            get A as s2 by client 1
            granted s2
            get A as s3 by client 1
            get A as s4 by client 2
            waiting 2
            keep s1
            granted s3 on the lease of s1
            waiting s4
            client 1 dies
            active 2
            worker of s3 is done
            granted s4 on the worker of s1
            worker of s2 is done
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "a dead client's waits are dropped at once, and its leases serve others",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1 by client 2
            granted s1
            get A as s2 by client 1
            get A as s3 by client 3
            waiting 2
            client 1 dies
            waiting 1
            finish s1
            granted s3
            keep s3
            client 3 dies
            active 0
            get A as s4 by client 2
            granted s4 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "clients of one pool see each other's workers",
        behaviours: &[99],
        story: "
            get A as s1 by client 1
            granted s1
            finish s1
            get A as s2 by client 2
            granted s2 on the worker of s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a started worker nobody waits for any more stays, and serves the next",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            cancel s1
            waiting 0
            count 1
            worker ready
            active 0
            get A as s2
            granted s2
            count 1",
        ..PLAIN
    },
];
