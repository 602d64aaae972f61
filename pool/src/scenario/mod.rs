//! The specification as data: each [`Scenario`] is a promise, told step by step, that a driver plays and checks.
//!
//! Two drivers play them. The machine's (`pool/tests/scenarios.rs`) turns steps into events. The one of real
//! processes plays those marked [`real`](Scenario::real) through clients, with apps that do as they are told.
//!
//! # How a driver plays
//!
//! It makes a pool with [`Scenario::settings`] and plays the [`Step`]s in order. Apps are named by letters; the
//! root of `A` is `/apps/A`, that of `a` (lower case: outside of `apps_under`) `/elsewhere/a`, below whatever
//! folder the driver chooses. An app's workers are what [`Scenario::plan`] says. Clients are numbers; one that
//! is not known yet connects when it is first named.
//!
//! * **Starts.** With [`Starts::AtOnce`] every worker that is started becomes ready by itself. With
//!   [`Starts::ByHand`] it stays starting until the step `worker ready` or `worker fails`: real workers wait for
//!   a word before they say that they are ready, and end with an error at another word. Inspections succeed by
//!   themselves.
//! * **Stops.** A worker that is told to leave does so by itself, unless its app is `stubborn`.
//! * **Facts** ([`Step::Get`] to [`Step::Pass`]) are told to the pool. A `get` doesn't wait for its answer.
//! * **Expectations** ([`Step::Granted`] and after it) are looked at: at once by a driver of the machine, where everything
//!   that follows from a fact has followed; by one of real processes again and again until they are so, for a few
//!   seconds. What is expected *not* to happen ([`Step::Waiting`], and figures that stay) it can only look at for a
//!   while.
//! * **Sessions.** One that is granted lasts until a step ends it. The worker of an abandoned session goes on
//!   until the step `worker of s1 is done`. A label stays the name of its session, and of its worker, when the
//!   session is over. Real workers are told apart by their process ids.
//! * **Orders** (`set`, `clear`, `add`, `stop`, `retire` and so on) are client 1's or the operator's; their answer is
//!   waited for and not looked at.
//! * **Time.** `pass` lets time go by. A driver of real processes waits, and may take the times of the
//!   settings and of `pass` for a fraction of what they say, all of them alike.
//! * **Memory** is what the steps say, seen at once by whoever measures; a look at a worker is answered at once too.
//! * **Connections.** `granted s2 on the lease of s1` says that the connection is the one s1 was kept on. The
//!   next connection to a worker of an app that `refuses connections` fails, as its steps say; in scenarios with those,
//!   and in those with `backlog`, `descriptors` or an inspection that fails, the world is more obedient than
//!   real processes are, so they are not marked `real`.

mod breaker;
mod clients;
mod ends;
mod errors;
mod health;
mod limits;
mod orders;
mod parse;
mod recycling;
mod restarts;
mod reuse;
mod room;
mod time;
mod updates;

use crate::event::{Close, RestartMode};
use crate::settings::{Concurrency, Parking, Plan, Settings, Wanted};
use std::num::NonZeroU32;
use std::time::Duration;

/// One promise of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The promise, as a sentence.
    pub name: &'static str,
    /// Numbers of the behaviours it shows (`docs/behaviours.md`).
    pub behaviours: &'static [u16],
    /// Whether real processes can play it too.
    pub real: bool,
    pub starts: Starts,
    /// What the workers of all its apps are like.
    pub plan: Plan,
    /// Changes the settings every scenario begins with; see [`Scenario::settings`].
    pub set: fn(&mut Settings),
    /// One step a line, as [`Scenario::steps`] reads them.
    pub story: &'static str,
}

/// When started workers become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    AtOnce,
    /// With the step `worker ready`.
    ByHand,
}

/// A name for a `get`, and for the session it is answered with.
pub type Label = &'static str;

/// A client, by number.
pub type Client = u64;

/// An app, by letter.
pub type App = char;

/// One line of a story; the line is given with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `get A as s1 [by client 2] [wanting max_queue 3 | start | linger 100 s]`
    Get {
        app: App,
        session: Label,
        client: Client,
        wanted: Box<Wanted>,
    },
    /// `cancel s1`: its client no longer wants the answer.
    Cancel {
        session: Label,
    },
    /// `finish s1`, `keep s1`, `abandon s1`; a session that was kept is dropped with `finish`.
    Close {
        session: Label,
        how: Close,
    },
    /// `reconnect s1`: the parked connection it was granted on is dead.
    Reconnect {
        session: Label,
    },
    /// `client 2 dies`
    ClientDies {
        client: Client,
    },
    /// `worker ready [of A]`: the worker that is starting longest.
    WorkerReady {
        app: Option<App>,
    },
    /// `worker fails [of A]`: the worker that is starting longest ends with an error instead.
    WorkerFails {
        app: Option<App>,
    },
    /// `kill worker of s1`: SIGKILL from outside.
    KillWorker {
        session: Label,
    },
    /// `worker of s1 crashes`: it aborts.
    Crash {
        session: Label,
    },
    /// `worker of s1 hangs`: it answers nothing and leaves for nobody, until `worker of s1 goes on`.
    Hang {
        session: Label,
        on: bool,
    },
    /// `worker of s1 uses 2000`: so much memory, in bytes, from now on. Before, it uses none.
    Uses {
        session: Label,
        bytes: u64,
    },
    /// `nobody looks at workers`: looks before a kill are not answered from now on.
    NobodyLooks,
    /// `A is stubborn`: its workers don't leave when they are told to, only when they are killed.
    Stubborn {
        app: App,
    },
    /// `A can't be inspected`: the next time its root is looked into.
    Uninspectable {
        app: App,
    },
    /// `A refuses connections`, `A has a full backlog`, `A finds no descriptors`: the next connection to it.
    Unreachable {
        app: App,
        why: crate::event::ConnectFailure,
    },
    /// `worker of s1 is done`: the worker of an abandoned session closes its end.
    Lingered {
        session: Label,
    },
    /// By client 1: `set max 4`, `set max per app 2`, `set max per app none`, `set max idle 1 s`, `set max idle never`
    SetMax(NonZeroU32),
    SetMaxPerApp(Option<NonZeroU32>),
    SetMaxIdle(Option<Duration>),
    /// `clear`
    Clear,
    /// `add A`, `remove A`, `stop A`, `start A`, `disable A`, `enable A`
    Order {
        order: Order,
        app: App,
    },
    /// `restart A as r1`, `restart A with kill as r1`; it isn't waited for.
    Restart {
        app: App,
        mode: RestartMode,
        asker: Label,
    },
    /// `files of A change`: and stayed quiet.
    FilesChange {
        app: App,
    },
    /// `stage A as u1`, `roll A back as u1`: another version shall take the place of the present one.
    Update {
        app: App,
        back: bool,
        asker: Label,
    },
    /// `A is exchanged`, `the exchange of A fails`: the step that was ordered last.
    Exchanged {
        app: App,
        done: bool,
    },
    /// `retire worker of s1`
    Retire {
        session: Label,
    },
    /// `end s1`: by the operator.
    End {
        session: Label,
    },
    /// `end the pool within 5 s`
    EndPool {
        grace: Duration,
    },
    /// `pass 5 s`, `pass 250 ms`
    Pass(Duration),

    /// `granted s1 [on the worker of s2 | on another worker than s2 | on the lease of s2 | freshly]`
    Granted {
        session: Label,
        on: On,
    },
    /// `waiting s1`: not answered yet.
    Waiting {
        session: Label,
    },
    /// `refused s1: queue full`
    Refused {
        session: Label,
        why: Why,
    },
    /// `refused s1: disabled for 5 s`: by the breaker, from now on.
    DisabledFor {
        session: Label,
        time: Duration,
    },
    /// `s1 ended: worker gone`: the pool ended the session, or took back its lease.
    Ended {
        session: Label,
        why: EndedBy,
    },
    /// `count 2`, `count of A 1`: worker processes, whatever their state.
    Count {
        app: Option<App>,
        workers: u32,
    },
    /// `starting 1`: workers that are not ready.
    Starting {
        workers: u32,
    },
    /// `active 1`: workers with a session.
    Active {
        workers: u32,
    },
    /// `waiting 2`: `get`s in all queues.
    WaitingTotal {
        gets: u32,
    },
    /// `worker of s1 is draining`: `ready`, `busy`, `draining`, `stopping` or `gone`.
    Worker {
        session: Label,
        is: Is,
    },
    /// `worker of s1 was recorded`: `examined`, `dumped`, `killed`, `recorded`, or `not recorded` and so on.
    Was {
        session: Label,
        what: Fate,
        so: bool,
    },
    /// `A is disabled`, `A is not disabled`
    Disabled {
        app: App,
        so: bool,
    },
    /// `A is forgotten`, `A is known`
    Forgotten {
        app: App,
        so: bool,
    },
    /// `A is in generation 2`: of which workers are started.
    InGeneration {
        app: App,
        generation: u64,
    },
    /// `r1 is open`, `r1 is done`, `r1 is refused: stopped`: what whoever asked for a restart or an update knows.
    Told {
        asker: Label,
        what: Told,
    },
    /// `the pool has ended`
    PoolEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Add,
    Remove,
    Stop,
    Start,
    Disable,
    Enable,
}

/// What came of a restart or an update, for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Done,
    Refused(Why),
}

/// Where a session was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Anything,
    WorkerOf(Label),
    AnotherWorkerThan(Label),
    LeaseOf(Label),
    /// A connection of its own.
    FreshConnection,
}

/// Why a `get` was refused; `Refusal` without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    SpawnFailed,
    QueueFull,
    PoolQueueFull,
    Disabled,
    Stopped,
    Overloaded,
    ShuttingDown,
    TimedOut,
    NotAllowed,
    Removed,
    Unknown,
    UpdateUnderWay,
}

/// Why the pool ended a session; `EndReason` without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    WorkerGone,
    LeaseEnded,
    DrainTimedOut,
    LingerTimedOut,
    RequestTimedOut,
    Restarted,
    Operator,
    PoolEnding,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Ready,
    Busy,
    Draining,
    Stopping,
    Gone,
}

/// What was done to a worker, or about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Looked at before it is killed.
    Examined,
    /// Asked for its stacks.
    Dumped,
    Killed,
    /// Its end was recorded, as one that was not peaceful.
    Recorded,
}

impl Scenario {
    /// Every scenario.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let by_topic = [
            reuse::ALL,
            room::ALL,
            limits::ALL,
            orders::ALL,
            clients::ALL,
            errors::ALL,
            recycling::ALL,
            time::ALL,
            health::ALL,
            breaker::ALL,
            ends::ALL,
            restarts::ALL,
            updates::ALL,
        ];
        by_topic.into_iter().flatten()
    }

    /// The settings of its pool: the defaults, with room for as many starts as there may be workers.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let mut settings =
            Settings { max_starting: number(100), apps_under: vec![b"/apps".to_vec()], ..Settings::default() };
        (self.set)(&mut settings);
        settings
    }

    /// Its steps, each with its line.
    ///
    /// # Panics
    ///
    /// If a line says nothing that is known.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, Step)> {
        let lines = self.story.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| (line, parse::step(line).unwrap_or_else(|| panic!("{}: what is “{line}”?", self.name))))
    }
}

/// A scenario that changes no setting, with workers for one session at a time.
const PLAIN: Scenario = Scenario {
    name: "",
    behaviours: &[],
    real: true,
    starts: Starts::AtOnce,
    plan: workers_for(1),
    set: |_| {},
    story: "",
};

/// Workers with so many slots, whose connections stay parked for 1.5 s.
const fn workers_for(sessions: u32) -> Plan {
    Plan {
        concurrency: Concurrency::Limited(number(sessions)),
        parking: Parking::For(Duration::from_millis(1500)),
        preloads: false,
    }
}

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("limits are at least 1")
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
