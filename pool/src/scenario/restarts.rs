//! Restarts: the next generation of an app's code takes the place of the present one, without a lost request.

use super::{PLAIN, Scenario, Starts, number, workers_for};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a restart starts the new generation beside the old one, which serves until that is ready",
        behaviours: &[52],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            starting 1
            A is in generation 1
            get A as s2
            granted s2 on the worker of s1
            r1 is open
            worker ready
            worker of s2 is draining
            r1 is done
            A is in generation 2
            get A as s3
            granted s3 on another worker than s1
            finish s2
            worker of s1 is gone
            worker of s1 was not recorded
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a restart replaces two idle workers by one",
        behaviours: &[53],
        story: "
            get A as s1
            get A as s2
            granted s2
            finish s1
            finish s2
            count 2
            restart A as r1
            r1 is done
            worker of s1 is gone
            worker of s2 is gone
            count 1
            active 0",
        ..PLAIN
    },
    Scenario {
        name: "after a restart the minimum is there again, of the new generation",
        behaviours: &[57],
        set: |settings| settings.defaults.min = 2,
        story: "
            get A as s1
            granted s1
            count 2
            finish s1
            restart A as r1
            r1 is done
            worker of s1 is gone
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "a worker that is starting when its app restarts is never put to use",
        behaviours: &[58],
        starts: Starts::ByHand,
        story: "
            get A as s1
            starting 1
            restart A as r1
            A is in generation 2
            starting 1
            waiting s1
            r1 is open
            worker ready
            granted s1
            r1 is done
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "gets that no old worker has a slot for wait for the new generation, and start nothing of the old",
        behaviours: &[59],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            get A as s2
            get A as s3
            starting 1
            waiting s2
            worker ready
            granted s2 on another worker than s1
            worker of s1 is draining
            r1 is done
            starting 1
            waiting s3
            worker ready
            granted s3
            finish s1
            worker of s1 is gone",
        ..PLAIN
    },
    Scenario {
        name: "a second restart during the first drops it, and both are done when the newest serves",
        behaviours: &[60],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            starting 1
            restart A as r2
            starting 1
            count 2
            r1 is open
            worker ready
            r1 is done
            r2 is done
            A is in generation 3
            worker of s1 is gone
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a second restart while the first one's old workers leave begins anew",
        behaviours: &[60],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            get A as s2
            worker ready
            granted s2
            restart A as r1
            worker ready
            starting 1
            r1 is open
            restart A as r2
            starting 1
            worker ready
            starting 1
            worker ready
            r1 is done
            r2 is done
            A is in generation 3
            finish s1
            finish s2
            worker of s1 is gone
            worker of s2 is gone",
        ..PLAIN
    },
    Scenario {
        name: "busy workers are replaced one by one, and the switch is reported when none takes a session any more",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            get A as s2
            worker ready
            granted s2
            restart A as r1
            starting 1
            worker of s1 is busy
            worker ready
            worker of s1 is draining
            worker of s2 is busy
            starting 1
            r1 is open
            worker ready
            worker of s2 is draining
            r1 is done
            finish s1
            finish s2
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "old workers that fall idle leave at once, and need no replacement",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.max_starting = number(1),
        story: "
            get A as s1
            worker ready
            get A as s2
            worker ready
            granted s2
            restart A as r1
            worker ready
            worker of s1 is draining
            worker of s2 is busy
            finish s2
            worker of s2 is gone
            r1 is done",
        ..PLAIN
    },
    Scenario {
        name: "while both generations serve, the old one is used only when the new one has no slot",
        behaviours: &[],
        starts: Starts::ByHand,
        plan: workers_for(2),
        story: "
            get A as s1
            worker ready
            get A as s2
            granted s2 on the worker of s1
            get A as s3
            worker ready
            granted s3 on another worker than s1
            restart A as r1
            worker ready
            worker of s3 is draining
            starting 1
            finish s2
            get A as s4
            granted s4 on another worker than s1
            get A as s5
            granted s5 on the worker of s4
            get A as s6
            granted s6 on the worker of s1
            r1 is open
            worker ready
            worker of s1 is draining
            r1 is done",
        ..PLAIN
    },
    Scenario {
        name: "a generation that can't be started leaves the old one serving, and nobody but who asked is told",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.breaker_failures = Some(number(1)),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            worker fails
            r1 is refused: spawn failed
            worker of s1 is ready
            count 1
            A is in generation 1
            A is not disabled
            get A as s2
            granted s2 on the worker of s1
            restart A as r2
            worker ready
            r2 is done
            A is in generation 3
            worker of s2 is draining",
        ..PLAIN
    },
    Scenario {
        name: "a root that can't be started as it is leaves the old generation serving",
        behaviours: &[],
        real: false,
        story: "
            get A as s1
            granted s1
            A can't be inspected
            restart A as r1
            r1 is refused: spawn failed
            worker of s1 is busy
            count 1
            A is in generation 1
            get A as s2
            granted s2",
        ..PLAIN
    },
    Scenario {
        name: "whoever waits when a new generation fails is served by the old one",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            get A as s2
            waiting s2
            worker fails
            r1 is refused: spawn failed
            waiting s2
            starting 1
            worker ready
            granted s2
            A is in generation 1",
        ..PLAIN
    },
    Scenario {
        name: "a restart goes beyond max by the surge, and costs no other app a worker",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.max = number(2),
        story: "
            get A as s1
            worker ready
            get B as s2
            worker ready
            granted s2
            finish s2
            restart A as r1
            starting 1
            count 3
            worker of s2 is ready
            worker ready
            r1 is done
            worker of s1 is draining
            worker of s2 is ready
            finish s1
            count 2",
        ..PLAIN
    },
    Scenario {
        name: "without surge and room one old worker leaves first, and gets wait for the new one",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.surge) = (number(1), 0),
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            worker of s1 is draining
            get A as s2
            waiting s2
            count 1
            finish s1
            starting 1
            count 1
            worker ready
            granted s2
            r1 is done
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge a generation that fails brings the old one back, and whoever waits is served by that",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| {
            (settings.max, settings.surge) = (number(1), 0);
            settings.defaults.breaker_failures = Some(number(1));
        },
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            worker of s1 is gone
            get A as s2
            waiting s2
            worker fails
            r1 is refused: spawn failed
            waiting s2
            starting 1
            worker ready
            granted s2
            A is in generation 1
            A is not disabled
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge the place that an old worker gave up in vain is filled again though nobody waits",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.surge) = (number(2), 0),
        story: "
            get A as s1
            worker ready
            get A as s2
            worker ready
            granted s2
            finish s1
            finish s2
            restart A as r1
            worker of s1 is gone
            worker of s2 is ready
            worker fails
            r1 is refused: spawn failed
            starting 1
            worker ready
            count 2
            A is in generation 1",
        ..PLAIN
    },
    Scenario {
        name: "without surge but with room the new generation still comes first",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.surge) = (number(2), 0),
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            starting 1
            worker of s1 is ready
            worker fails
            r1 is refused: spawn failed
            starting 0
            count 1
            restart A as r2
            worker ready
            worker of s1 is gone
            r2 is done",
        ..PLAIN
    },
    Scenario {
        name: "a kill restart ends old sessions at once, and whoever waits is served by the new generation",
        behaviours: &[],
        set: |settings| settings.max = number(1),
        story: "
            get A as s1
            granted s1
            get A as s2
            waiting s2
            restart A with kill as r1
            s1 ended: restarted
            worker of s1 is gone
            granted s2 on another worker than s1
            r1 is done
            A is in generation 2
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "a kill restart whose generation fails is told to whoever asked and whoever waits",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A with kill as r1
            s1 ended: restarted
            get A as s2
            starting 1
            worker fails
            r1 is refused: spawn failed
            refused s2: spawn failed
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "an app that nobody uses has nothing to restart: its next worker is of the new generation",
        behaviours: &[],
        real: false,
        story: "
            add A
            restart A as r1
            r1 is done
            count 0
            A is in generation 2
            get A as s1
            granted s1",
        ..PLAIN
    },
    Scenario {
        name: "a restart makes a broken app work again: whatever went wrong, it was other code",
        behaviours: &[],
        starts: Starts::ByHand,
        set: |settings| settings.defaults.breaker_failures = Some(number(1)),
        story: "
            get A as s1
            worker fails
            A is disabled
            restart A as r1
            r1 is done
            A is not disabled
            count 0
            get A as s2
            worker ready
            granted s2",
        ..PLAIN
    },
    Scenario {
        name: "an app that is disabled by hand starts nothing when it restarts: its old workers leave",
        behaviours: &[],
        story: "
            get A as s1
            granted s1
            disable A
            restart A as r1
            r1 is done
            worker of s1 is draining
            finish s1
            count 0
            enable A
            get A as s2
            granted s2 on another worker than s1",
        ..PLAIN
    },
    Scenario {
        name: "a restart of an app that is not known or stopped is refused",
        behaviours: &[],
        real: false,
        story: "
            restart A as r1
            r1 is refused: unknown
            get A as s1
            granted s1
            stop A
            restart A as r2
            r2 is refused: stopped",
        ..PLAIN
    },
    Scenario {
        name: "changed files restart an app, and its old generation serves until the new one is ready",
        behaviours: &[52, 54, 125],
        real: false,
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            files of A change
            starting 1
            get A as s2
            granted s2 on the worker of s1
            finish s2
            worker ready
            worker of s1 is gone
            get A as s3
            granted s3 on another worker than s1
            A is in generation 2",
        ..PLAIN
    },
    Scenario {
        name: "when the only worker is retired and the files have changed, the next get has the new generation",
        behaviours: &[36],
        real: false,
        story: "
            get A as s1
            granted s1
            retire worker of s1
            files of A change
            get A as s2
            granted s2 on another worker than s1
            A is in generation 2
            finish s1
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "an app whose files have changed and that has no worker takes the room of another's idle one",
        behaviours: &[21],
        real: false,
        set: |settings| settings.max = number(1),
        story: "
            add A
            get B as s1
            granted s1
            finish s1
            files of A change
            worker of s1 is ready
            get A as s2
            granted s2
            worker of s1 is gone
            A is in generation 2
            count 1",
        ..PLAIN
    },
    Scenario {
        name: "when the last old worker dies during a restart, whoever waits is served by the new generation",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            starting 1
            kill worker of s1
            s1 ended: worker gone
            get A as s2
            starting 1
            worker ready
            granted s2
            r1 is done
            A is in generation 2",
        ..PLAIN
    },
    Scenario {
        name: "a restart whose room went to another app has it back from an idle worker, though nobody waits",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        set: |settings| (settings.max, settings.surge) = (number(1), 0),
        story: "
            get A as s1
            worker ready
            granted s1
            get B as s2
            waiting s2
            restart A as r1
            finish s1
            count of B 1
            worker ready of B
            granted s2
            r1 is open
            finish s2
            worker of s2 is gone
            worker ready of A
            r1 is done",
        ..PLAIN
    },
    Scenario {
        name: "clear during a restart has done what it was for: who asks next gets the newest code",
        behaviours: &[],
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            starting 1
            clear
            r1 is done
            starting 0
            worker of s1 is draining
            get A as s2
            worker ready
            granted s2
            A is in generation 3",
        ..PLAIN
    },
    Scenario {
        name: "when an app is stopped during its restart, whoever asked for that is told",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            stop A
            r1 is refused: stopped
            starting 0
            finish s1
            count 0",
        ..PLAIN
    },
    Scenario {
        name: "when an app is removed during its restart, whoever asked for that is told, and nothing is left",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            restart A as r1
            remove A
            r1 is refused: removed
            count 0
            A is forgotten",
        ..PLAIN
    },
    Scenario {
        name: "when the pool ends during a restart, whoever asked for that is told",
        behaviours: &[],
        real: false,
        starts: Starts::ByHand,
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            end the pool within 5 s
            r1 is refused: shutting down
            starting 0
            finish s1
            the pool has ended",
        ..PLAIN
    },
];
