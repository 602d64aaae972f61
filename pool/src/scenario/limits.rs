//! Limits raised and lowered, idle time, `clear`, and `min`.

use super::{PLAIN, Scenario, number, seconds};
use std::time::Duration;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "with a limit per app, one app's second get waits, and another app still starts",
        behaviours: &[27],
        set: |settings| settings.defaults.max_per_app = Some(number(1)),
        story: "
            get A as s1
            granted s1
            get A as s2
            waiting s2
            count 1
            get B as s3
            granted s3
            waiting s2
            count 2
            finish s1
            granted s2 on the worker of s1",
        ..PLAIN
    },
    Scenario {
        name: "raising the limit per app starts workers for those who wait",
        behaviours: &[17, 27],
        set: |settings| settings.defaults.max_per_app = Some(number(1)),
        story: "
            get A as s1
            get A as s2
            granted s1
            waiting s2
            set max per app 2
            granted s2
            set max per app none
            get A as s3
            granted s3
            count 3",
        ..PLAIN
    },
    Scenario {
        name: "lowering max ends idle workers at once and busy ones as they fall idle",
        behaviours: &[],
        story: "
            get A as s1
            get A as s2
            get A as s3
            get A as s4
            granted s4
            finish s4
            count 4
            set max 2
            worker of s4 is gone
            count 3
            active 3
            finish s3
            worker of s3 is gone
            count 2
            finish s2
            worker of s2 is ready
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "lowering the limit per app ends that app's idle workers at once",
        behaviours: &[],
        story: "
            get A as s1
            get A as s2
            get B as s3
            granted s3
            finish s1
            set max per app 1
            worker of s1 is gone
            worker of s2 is busy
            count of A 1
            count of B 1",
        ..PLAIN
    },
    Scenario {
        name: "a lease at a surplus worker ends with its session",
        behaviours: &[],
        story: "
            get A as s1
            get A as s2
            granted s2
            set max 1
            keep s2
            s2 ended: lease ended
            worker of s2 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "an idle worker leaves after its idle time, a busy one stays",
        behaviours: &[37, 38],
        set: |settings| settings.defaults.max_idle = Some(seconds(2)),
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s2
            pass 1 s
            count 2
            pass 1 s
            worker of s2 is gone
            worker of s1 is busy
            count 1
            finish s1
            pass 2 s
            count 0
            A is forgotten",
        ..PLAIN
    },
    Scenario {
        name: "idle time never takes an app below its minimum",
        behaviours: &[37],
        set: |settings| (settings.defaults.min, settings.defaults.max_idle) = (1, Some(seconds(1))),
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s1
            finish s2
            count 2
            pass 1 s
            count 1
            pass 5 s
            count 1
            get A as s3
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "a parked connection keeps no worker from being idle",
        behaviours: &[38],
        set: |settings| settings.defaults.max_idle = Some(seconds(1)),
        story: "
            get A as s1
            granted s1
            keep s1
            pass 1 s
            s1 ended: lease ended
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "setting the idle time holds for workers that are idle already",
        behaviours: &[38],
        story: "
            get A as s1
            granted s1
            finish s1
            pass 2 s
            count 1
            set max idle 1 s
            pass 10 ms
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "an idle time of zero is never",
        behaviours: &[],
        set: |settings| settings.defaults.max_idle = Some(Duration::ZERO),
        story: "
            get A as s1
            granted s1
            finish s1
            pass 5 s
            count 1
            set max idle never
            pass 5 s
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a worker that was told to leave counts until its process is gone",
        behaviours: &[34],
        set: |settings| {
            settings.defaults.max_idle = Some(seconds(1));
            settings.defaults.stop_timeout = seconds(3);
        },
        story: "
            A is stubborn
            get A as s1
            granted s1
            finish s1
            pass 1 s
            worker of s1 is stopping
            count 1
            pass 2 s
            worker of s1 is stopping
            count 1
            pass 1 s
            worker of s1 is gone
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "clear empties the pool: sessions go on, and who asks next gets a fresh worker",
        behaviours: &[43, 29, 33],
        story: "
            get A as s1
            get B as s2
            granted s1
            granted s2
            finish s2
            clear
            worker of s2 is gone
            worker of s1 is draining
            get A as s3
            granted s3 on another worker than s1
            count of A 2
            finish s1
            worker of s1 is gone
            count of A 1
            active 1",
        ..PLAIN
    },
    Scenario {
        name: "clear with waiters serves them by fresh workers",
        behaviours: &[30, 43],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            waiting s2
            clear
            waiting s2
            finish s1
            granted s2 on another worker than s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a connection kept at a draining worker ends with its session",
        behaviours: &[33],
        story: "
            get A as s1
            granted s1
            clear
            keep s1
            s1 ended: lease ended
            worker of s1 is gone
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a draining worker has its drain time from the start of draining, then its sessions end",
        behaviours: &[33],
        set: |settings| settings.defaults.drain_timeout = seconds(2),
        story: "
            get A as s1
            granted s1
            pass 1 s
            clear
            pass 1 s
            worker of s1 is draining
            pass 1 s
            s1 ended: drain timed out
            worker of s1 is gone
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a minimum is restored after a crash and after clear",
        behaviours: &[14, 57],
        set: |settings| settings.defaults.min = 2,
        story: "
            get A as s1
            granted s1
            count 2
            kill worker of s1
            s1 ended: worker gone
            count 2
            active 0
            clear
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a minimum gives way to an app that has no worker",
        behaviours: &[],
        set: |settings| (settings.max, settings.defaults.min) = (number(1), 1),
        story: "
            get A as s1
            granted s1
            finish s1
            get B as s2
            granted s2
            count of A 0
            count 1",
        ..PLAIN
    },
];
