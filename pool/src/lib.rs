//! The decisions of Hatchery as one pure function: events in, effects out, time as a value.
//!
//! What is absent here is the point: no socket, no clock, no process, no randomness, and no dependency that
//! could bring one in. A shell turns what happens into [`Event`]s, carries out the [`Effect`]s in order, and
//! tells [`Event::Tick`] when [`Pool::deadline`] has come.
//!
//! ```
//! use hatchery_pool::{ClientId, Concurrency, Effect, Event, Parking, Path, Plan, Pool, Request, Settings, Time, Wanted};
//!
//! let mut pool = Pool::new(Settings::default());
//! let now = Time::ZERO;
//!
//! let request = Request { client: ClientId(1), number: 1 };
//! let asked = Event::Asked { request, root: b"/srv/shop".to_vec(), wanted: Wanted::default(), key: None };
//! let effects = pool.step(now, asked);
//! let Some(&Effect::Inspect { app, generation }) = effects.last() else { panic!("{effects:?}") };
//!
//! let plan = Plan { concurrency: Concurrency::Unlimited, parking: Parking::Unlimited, preloads: false };
//! let effects = pool.step(now, Event::Inspected { app, generation, plan });
//! let Some(&Effect::Spawn { worker, .. }) = effects.last() else { panic!("{effects:?}") };
//!
//! let effects = pool.step(now, Event::Ready { worker });
//! assert!(matches!(effects.last(), Some(Effect::Grant { path: Path::Fresh, .. })));
//! assert_eq!((pool.count(), pool.active()), (1, 1));
//! ```
#![forbid(unsafe_code)]

// The vocabulary: what is said and named.
mod effect;
mod event;
mod ids;
mod settings;
mod snapshot;
mod time;

// What the pool knows, a noun each.
mod agenda;
mod app;
mod book;
mod breaker;
mod counters;
mod preloader;
mod queue;
mod roll;
mod roster;
mod timers;

// The machine, and what it does with events: `step` and `settle` in `pool` hold the control flow.
mod asking;
mod failing;
mod health;
mod operator;
mod pool;
mod preloading;
mod recycling;
mod rolling;
mod sessions;
mod updating;
mod workers;

// Policies: they look and choose.
mod bounds;
mod room;
mod routing;
mod tenant;

// What others look at.
mod check;
mod view;

#[cfg(feature = "scenarios")]
pub mod scenario;

pub use counters::{BOUNDS, Counters, Histogram, RefusalKind, SessionEnd};
pub use effect::{
    Answer, Beyond, Disabling, DropReason, Effect, EndReason, Failure, Gate, Invalid, NotPreloaded, Notice, Passing,
    Path, Refusal, Scope, StopReason, SwapStep,
};
pub use event::{Close, ConnectFailure, Event, Exit, RestartMode};
pub use ids::{AppId, ClientId, ConnectionId, Generation, ReportId, Request, SessionId, WorkerId};
pub use pool::Pool;
pub use settings::{AppSettings, Concurrency, LEASES_WITHOUT_LIMIT, Parking, Plan, Settings, TenantSettings, Wanted};
pub use snapshot::{
    AppSnapshot, AppState, PreloaderSnapshot, PreloaderState, RestartState, SessionSnapshot, Snapshot, TenantSnapshot,
    WorkerSnapshot, WorkerState,
};
pub use time::Time;
