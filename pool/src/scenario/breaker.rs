//! Apps that fail again and again: they are disabled for a while, and cost nobody anything.

use super::{PLAIN, Scenario, Starts, number, seconds, workers_for};
use crate::settings::Settings;

/// The second failure is one too many.
fn at_two(settings: &mut Settings) {
    settings.defaults.breaker_failures = Some(number(2));
}

fn never(settings: &mut Settings) {
    settings.defaults.breaker_failures = None;
}

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "five failed starts disable an app: it is refused at once, and nothing of it is started",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker fails
            refused s1: spawn failed
            get A as s2
            worker fails
            get A as s3
            worker fails
            get A as s4
            worker fails
            A is not disabled
            get A as s5
            worker fails
            refused s5: spawn failed
            A is disabled
            get A as s6
            refused s6: disabled for 5 s
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "the next get after its pause is the next try, and each pause is twice the last",
        behaviours: &[],
        starts: Starts::ByHand,
        set: at_two,
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            get A as s3
            refused s3: disabled for 5 s
            pass 3 s
            get A as s4
            refused s4: disabled
            pass 2 s
            count 0
            get A as s5
            starting 1
            worker fails
            refused s5: spawn failed
            get A as s6
            refused s6: disabled for 10 s
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a broken app is tried with one start at a time, whoever waits",
        behaviours: &[],
        starts: Starts::ByHand,
        set: at_two,
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            pass 5 s
            get A as s3
            get A as s4
            starting 1
            worker ready
            granted s3
            starting 1
            worker fails
            refused s4: spawn failed
            A is disabled
            get A as s5
            refused s5: disabled
            worker of s3 is busy",
        ..PLAIN
    },
    Scenario {
        name: "a session that ends in peace proves that an app works, and all failures are forgotten",
        behaviours: &[],
        starts: Starts::ByHand,
        set: at_two,
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            pass 5 s
            get A as s3
            worker ready
            granted s3
            finish s3
            worker of s3 crashes
            A is not disabled
            get A as s4
            worker fails
            A is disabled
            get A as s5
            refused s5: disabled for 5 s",
        ..PLAIN
    },
    Scenario {
        name: "workers that crash as soon as they serve disable an app",
        behaviours: &[],
        set: at_two,
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            s1 ended: worker gone
            get A as s2
            granted s2
            worker of s2 crashes
            A is disabled
            get A as s3
            refused s3: disabled
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "workers killed from outside never disable an app",
        behaviours: &[],
        set: |settings| settings.defaults.breaker_failures = Some(number(1)),
        story: "
            get A as s1
            granted s1
            kill worker of s1
            worker of s1 was recorded
            get A as s2
            granted s2
            kill worker of s2
            get A as s3
            granted s3
            kill worker of s3
            A is not disabled
            get A as s4
            granted s4",
        ..PLAIN
    },
    Scenario {
        name: "an abandoned session proves nothing",
        behaviours: &[],
        set: at_two,
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            get A as s2
            granted s2
            abandon s2
            worker of s2 is done
            worker of s2 is ready
            get A as s3
            granted s3 on the worker of s2
            worker of s3 crashes
            A is disabled",
        ..PLAIN
    },
    Scenario {
        name: "a parked connection that is dropped proves nothing",
        behaviours: &[],
        real: false,
        set: at_two,
        story: "
            get A as s1 by client 1
            get A as s2 by client 2
            granted s2
            keep s1
            worker of s2 crashes
            finish s1
            get A as s3 by client 2
            granted s3 on the worker of s1
            worker of s3 crashes
            A is disabled",
        ..PLAIN
    },
    Scenario {
        name: "enabling a broken app by hand forgets its failures",
        behaviours: &[],
        starts: Starts::ByHand,
        set: at_two,
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            A is disabled
            enable A
            A is not disabled
            get A as s3
            worker fails
            A is not disabled
            get A as s4
            worker fails
            get A as s5
            refused s5: disabled for 5 s",
        ..PLAIN
    },
    Scenario {
        name: "an app that is disabled by hand stays so, whatever its breaker says",
        behaviours: &[],
        starts: Starts::ByHand,
        set: at_two,
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            disable A
            pass 6 s
            get A as s3
            refused s3: disabled
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "another app notices nothing of one that is broken",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| {
            at_two(settings);
            settings.max = number(2);
        },
        story: "
            get B as s1
            worker ready of B
            granted s1
            finish s1
            get A as s2
            worker fails of A
            get A as s3
            worker fails of A
            A is disabled
            get B as s4
            granted s4 on the worker of s1
            get A as s5
            refused s5: disabled
            get B as s6
            worker ready of B
            granted s6
            count of B 2
            pass 5 s
            get A as s7
            waiting s7
            finish s4
            worker fails of A
            refused s7: spawn failed
            worker of s6 is busy
            get B as s8
            worker ready of B
            granted s8",
        ..PLAIN
    },
    Scenario {
        name: "when an app is disabled its starting workers leave, and another app has their place",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.defaults.breaker_failures) = (number(2), Some(number(1))),
        story: "
            get A as s1
            get A as s2
            starting 2
            get B as s3
            get B as s4
            count of B 0
            worker fails of A
            refused s2: spawn failed
            A is disabled
            count of A 0
            count of B 2
            worker ready of B
            granted s3",
        ..PLAIN
    },
    Scenario {
        name: "what is kept of an app at least is not kept while it is disabled",
        behaviours: &[64],
        set: |settings| {
            at_two(settings);
            settings.defaults.min = 1;
        },
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            count 1
            get A as s2
            granted s2
            worker of s2 crashes
            A is disabled
            pass 6 s
            count 0
            get A as s3
            granted s3
            finish s3
            A is not disabled
            kill worker of s3
            pass 1 s
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "workers that are kept and die at once are started again only once a second",
        behaviours: &[64],
        real: false,
        set: |settings| {
            never(settings);
            settings.defaults.min = 1;
        },
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            count 1
            get A as s2
            granted s2
            worker of s2 crashes
            count 0
            pass 999 ms
            count 0
            pass 1 ms
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a failed app is remembered as long as its failures count, and then forgotten",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        story: "
            get A as s1
            pass 1 s
            worker fails
            count 0
            pass 299 s
            A is known
            pass 1 s
            A is forgotten",
        ..PLAIN
    },
    Scenario {
        name: "a disabled app is remembered beyond its pause, and then forgotten",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        set: |settings| {
            at_two(settings);
            settings.defaults.min = 1;
            settings.defaults.breaker_window = seconds(60);
        },
        story: "
            get A as s1
            worker fails
            get A as s2
            worker fails
            pass 64 s
            A is known
            pass 1 s
            A is forgotten
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "a client of a broken app with two slots is refused too",
        behaviours: &[],
        plan: workers_for(2),
        set: at_two,
        story: "
            get A as s1
            granted s1
            worker of s1 crashes
            get A as s2
            granted s2
            worker of s2 crashes
            get A as s3
            refused s3: disabled
            get A as s4
            refused s4: disabled
            waiting 0",
        ..PLAIN
    },
];
