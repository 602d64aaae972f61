//! Checkout and reuse: which worker serves a `get`.

use super::{PLAIN, Scenario, Starts, number, workers_for};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a new pool has no worker",
        behaviours: &[1],
        story: "
            count 0
            active 0
            waiting 0",
        ..PLAIN
    },
    Scenario {
        name: "the first get for an app waits while one worker is started, and is served by it",
        behaviours: &[2],
        starts: Starts::ByHand,
        story: "
            get A as s1
            waiting s1
            count 1
            starting 1
            active 0
            worker ready
            granted s1 freshly
            active 1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a session reaches its app",
        behaviours: &[3],
        story: "
            get A as s1
            granted s1
            worker of s1 is busy",
        ..PLAIN
    },
    Scenario {
        name: "a worker stays when its session is closed, and is used again",
        behaviours: &[4, 5],
        story: "
            get A as s1
            granted s1
            active 1
            finish s1
            active 0
            count 1
            get A as s2
            granted s2 on the worker of s1
            count 1
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "two overlapping gets for one app end with two workers",
        behaviours: &[6],
        story: "
            get A as s1
            granted s1
            get A as s2
            granted s2 on another worker than s1
            count 2
            active 2",
        ..PLAIN
    },
    Scenario {
        name: "two apps have a worker each, and keep them",
        behaviours: &[7, 28],
        story: "
            get A as s1
            get B as s2
            granted s1
            granted s2 on another worker than s1
            count 2
            finish s1
            finish s2
            active 0
            count of A 1
            count of B 1",
        ..PLAIN
    },
    Scenario {
        name: "a get for a busy app that may not grow waits, and the end of a session serves it",
        behaviours: &[8, 15, 16],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            waiting s2
            count 1
            finish s1
            granted s2 on the worker of s1
            active 1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "of an old worker that falls free and a new one that is starting, the first serves: the old",
        behaviours: &[9],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            get A as s2
            waiting s2
            count 2
            finish s1
            granted s2 on the worker of s1
            worker ready
            count 2
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "of an old worker that falls free and a new one that is starting, the first serves: the new",
        behaviours: &[9],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            get A as s2
            waiting s2
            worker ready
            granted s2 on another worker than s1
            active 2",
        ..PLAIN
    },
    Scenario {
        name: "two workers with two slots each: a slot that falls free needs no third worker",
        behaviours: &[9],
        starts: Starts::ByHand,
        plan: workers_for(2),
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            worker ready
            get A as s2
            granted s2 on the worker of s1
            get A as s3
            worker ready
            granted s3 on another worker than s1
            get A as s4
            granted s4 on the worker of s3
            get A as s5
            waiting s5
            finish s1
            granted s5 on the worker of s2
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "two workers with two slots each: a third that is ready first serves",
        behaviours: &[9],
        starts: Starts::ByHand,
        plan: workers_for(2),
        story: "
            get A as s1
            worker ready
            get A as s2
            get A as s3
            worker ready
            get A as s4
            get A as s5
            waiting s5
            count 3
            worker ready
            granted s5 on another worker than s1
            worker of s5 is busy
            count 3",
        ..PLAIN
    },
    Scenario {
        name: "an idle worker is picked over a busy one, so that three gets hit three workers",
        behaviours: &[10],
        story: "
            get A as s1
            get A as s2
            get A as s3
            granted s3
            finish s1
            finish s2
            finish s3
            count 3
            get A as t1
            get A as t2
            granted t2 on another worker than t1
            get A as t3
            granted t3 on another worker than t1
            granted t3 on another worker than t2
            active 3
            count 3",
        ..PLAIN
    },
    Scenario {
        name: "the worker with the fewest sessions is chosen, again and again",
        behaviours: &[11],
        plan: workers_for(2),
        story: "
            get A as s1
            get A as s2
            get A as s3
            granted s3 on another worker than s1
            finish s2
            get A as s4
            granted s4 on the worker of s1
            get A as s5
            granted s5 on the worker of s3
            active 2
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "of workers equally busy the one used last is chosen, so that surplus falls idle",
        behaviours: &[11],
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s2
            pass 100 ms
            finish s1
            get A as s3
            granted s3 on the worker of s1
            finish s3
            get A as s4
            granted s4 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "with all at capacity and no room, gets queue in order, and the first slot serves the first",
        behaviours: &[12],
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            get A as s2
            granted s2
            get A as s3
            get A as s4
            waiting s3
            waiting 2
            finish s2
            granted s3 on the worker of s2
            waiting s4
            finish s1
            granted s4 on the worker of s1
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a minimum is filled in the background; the first get waits for the first worker alone",
        behaviours: &[13],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.min = 3,
        story: "
            get A as s1
            count 3
            worker ready
            granted s1
            starting 2
            worker ready
            worker ready
            starting 0
            count 3
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "an app below its minimum whose workers are all busy serves and fills up",
        behaviours: &[14],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.min = 2,
        story: "
            get A as s1
            worker ready
            worker ready
            granted s1
            get A as s2
            granted s2
            kill worker of s1
            s1 ended: worker gone
            starting 1
            get A as s3
            waiting s3
            worker ready
            granted s3
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "raising max starts workers for those who wait, and serves all",
        behaviours: &[17, 26],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            get A as s3
            get A as s4
            waiting 3
            set max 3
            granted s2
            granted s3
            waiting s4
            set max 4
            granted s4
            count 4
            active 4",
        ..PLAIN
    },
];
