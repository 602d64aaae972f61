//! How workers end: with room for others, after a look, and on the record if not in peace.

use super::{PLAIN, Scenario, Starts, number, seconds};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "when the only worker is retired while gets wait, another is started at once and serves them",
        behaviours: &[30],
        set: |settings| settings.defaults.max_per_app = Some(number(2)),
        story: "
            get A as s1
            granted s1
            retire worker of s1
            get A as s2
            granted s2 on another worker than s1
            worker of s1 is draining",
        ..PLAIN
    },
    Scenario {
        name: "the room of a retired worker is the app's that waits",
        behaviours: &[31],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get B as s2
            waiting s2
            retire worker of s1
            waiting s2
            finish s1
            granted s2
            count of A 0
            count of B 1",
        ..PLAIN
    },
    Scenario {
        name: "a retired worker that stays is looked at, and then killed, and recorded",
        behaviours: &[34],
        real: false,
        set: |settings| settings.defaults.stop_timeout = seconds(2),
        story: "
            A is stubborn
            nobody looks at workers
            get A as s1
            granted s1
            finish s1
            retire worker of s1
            worker of s1 was not examined
            pass 2 s
            worker of s1 was examined
            worker of s1 was not killed
            count 1
            pass 499 ms
            worker of s1 was not killed
            pass 1 ms
            worker of s1 was killed
            worker of s1 was not dumped
            worker of s1 was recorded
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a look that is answered at once delays no kill",
        behaviours: &[34],
        real: false,
        set: |settings| settings.defaults.stop_timeout = seconds(2),
        story: "
            A is stubborn
            get A as s1
            granted s1
            finish s1
            retire worker of s1
            pass 1 s
            worker of s1 is stopping
            pass 1 s
            worker of s1 was examined
            worker of s1 was killed
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "before it is killed a worker is asked for its stacks, and has a second to print them",
        behaviours: &[],
        real: false,
        set: |settings| (settings.defaults.stop_timeout, settings.defaults.dump) = (seconds(2), true),
        story: "
            A is stubborn
            get A as s1
            granted s1
            finish s1
            retire worker of s1
            pass 2 s
            worker of s1 was dumped
            worker of s1 was examined
            pass 999 ms
            worker of s1 was not killed
            pass 1 ms
            worker of s1 was killed
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "who leaves in peace is not recorded, who crashes is",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            worker of s1 was recorded
            get A as s2
            granted s2
            finish s2
            clear
            worker of s2 is gone
            worker of s2 was not recorded",
        ..PLAIN
    },
    Scenario {
        name: "a draining worker that crashes is recorded, and its app is not blamed",
        behaviours: &[],
        set: |settings| settings.defaults.breaker_failures = Some(number(1)),
        story: "
            get A as s1
            granted s1
            clear
            worker of s1 is draining
            worker of s1 crashes
            s1 ended: worker gone
            worker of s1 was recorded
            A is not disabled",
        ..PLAIN
    },
    Scenario {
        name: "workers of an app added with prestart start before anybody asks",
        behaviours: &[],
        set: |settings| (settings.defaults.min, settings.defaults.prestart) = (2, true),
        story: "
            count 0
            add A
            count of A 2
            active 0
            get A as s1
            granted s1
            kill worker of s1
            count of A 2",
        ..PLAIN
    },
    Scenario {
        name: "without prestart an app's workers start when it is asked for",
        behaviours: &[],
        set: |settings| settings.defaults.min = 2,
        story: "
            add A
            count 0
            get A as s1
            granted s1
            count of A 2",
        ..PLAIN
    },
    Scenario {
        name: "no more workers start at a time than may",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.max_starting = number(2),
        story: "
            get A as s1
            get B as s2
            get C as s3
            starting 2
            count of C 0
            worker ready of A
            granted s1
            starting 2
            worker ready of C
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a waiter whose client has gone starts nothing",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.max = number(1),
        story: "
            get A as s1 by client 1
            get B as s2 by client 2
            waiting 2
            client 2 dies
            waiting 1
            worker ready of A
            granted s1
            finish s1
            count of B 0
            worker of s1 is ready",
        ..PLAIN
    },
];
