//! Staged updates: another version of an app's files is exchanged for the present one, tried, and kept if it starts.

use super::{PLAIN, Scenario, Starts};

/// Exchanges are done when the scenario says so.
const MACHINE: Scenario = Scenario { real: false, starts: Starts::ByHand, ..PLAIN };

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "an update is kept once a worker of the new version is ready",
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            stage A as u1
            starting 0
            A is exchanged
            starting 1
            get A as s2
            granted s2 on the worker of s1
            finish s2
            worker ready
            worker of s1 is gone
            u1 is open
            A is exchanged
            u1 is done
            A is in generation 2",
        ..MACHINE
    },
    Scenario {
        name: "an update that can't be started is undone, and the old version serves all the time",
        story: "
            get A as s1
            worker ready
            granted s1
            stage A as u1
            A is exchanged
            worker fails
            worker of s1 is busy
            u1 is open
            A is exchanged
            u1 is refused: spawn failed
            A is in generation 1
            finish s1
            get A as s2
            granted s2 on the worker of s1",
        ..MACHINE
    },
    Scenario {
        name: "an update of an app without workers that can't be started leaves nothing of it known",
        story: "
            add A
            stage A as u1
            A is exchanged
            starting 1
            worker fails
            starting 0
            get A as s1
            waiting s1
            starting 0
            A is exchanged
            u1 is refused: spawn failed
            starting 1
            A is in generation 3
            worker ready
            granted s1",
        ..MACHINE
    },
    Scenario {
        name: "an exchange that can't be done changes nothing",
        story: "
            get A as s1
            worker ready
            granted s1
            stage A as u1
            the exchange of A fails
            u1 is refused: spawn failed
            starting 0
            worker of s1 is busy
            A is in generation 1",
        ..MACHINE
    },
    Scenario {
        name: "nothing is started while an app's files are in between, and what was half-started leaves",
        story: "
            get A as s1
            starting 1
            stage A as u1
            starting 0
            get A as s2
            starting 0
            waiting 2
            A is exchanged
            starting 2
            worker ready
            granted s1
            worker ready
            granted s2",
        ..MACHINE
    },
    Scenario {
        name: "a restart during an exchange begins when that is done, and one generation answers both",
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            stage A as u1
            restart A as r1
            starting 0
            r1 is open
            A is exchanged
            starting 1
            worker ready
            r1 is done
            A is exchanged
            u1 is done
            A is in generation 2",
        ..MACHINE
    },
    Scenario {
        name: "a restart during an exchange begins though that can't be done",
        story: "
            get A as s1
            worker ready
            granted s1
            stage A as u1
            restart A as r1
            the exchange of A fails
            u1 is refused: spawn failed
            starting 1
            worker ready
            r1 is done
            A is in generation 2",
        ..MACHINE
    },
    Scenario {
        name: "an update during a restart takes its place, and answers it",
        story: "
            get A as s1
            worker ready
            granted s1
            restart A as r1
            starting 1
            stage A as u1
            starting 0
            r1 is open
            A is exchanged
            starting 1
            worker ready
            r1 is done
            A is exchanged
            u1 is done
            A is in generation 3",
        ..MACHINE
    },
    Scenario {
        name: "of two updates at a time the second is refused",
        story: "
            get A as s1
            worker ready
            granted s1
            stage A as u1
            stage A as u2
            u2 is refused: update under way
            A is exchanged
            roll A back as u3
            u3 is refused: update under way
            worker ready
            A is exchanged
            u1 is done",
        ..MACHINE
    },
    Scenario {
        name: "going back to the version before is an update too",
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            roll A back as u1
            A is exchanged
            worker ready
            A is exchanged
            u1 is done
            worker of s1 is gone
            A is in generation 2",
        ..MACHINE
    },
    Scenario {
        name: "when an app is stopped while its update is tried, that is undone",
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            stage A as u1
            A is exchanged
            starting 1
            stop A
            starting 0
            A is exchanged
            u1 is refused: stopped
            count 0",
        ..MACHINE
    },
    Scenario {
        name: "when an app is removed while its files are exchanged, they change back, and it is forgotten",
        story: "
            get A as s1
            worker ready
            granted s1
            finish s1
            stage A as u1
            remove A
            count 0
            A is known
            A is exchanged
            A is known
            A is exchanged
            u1 is refused: removed
            A is forgotten",
        ..MACHINE
    },
    Scenario {
        name: "clear while an update is tried tries it with the next worker",
        story: "
            get A as s1
            worker ready
            granted s1
            stage A as u1
            A is exchanged
            starting 1
            clear
            starting 1
            worker of s1 is draining
            worker ready
            A is exchanged
            u1 is done",
        ..MACHINE
    },
    Scenario {
        name: "an update of an app that is disabled by hand is refused: nobody could say whether it works",
        story: "
            get A as s1
            worker ready
            granted s1
            disable A
            stage A as u1
            u1 is refused: disabled
            worker of s1 is busy",
        ..MACHINE
    },
];
