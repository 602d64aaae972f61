//! Where workers come from, an event at a time: what the simulation shows for all histories, in a few that can be read.

use hatchery_pool::{
    AppId, ClientId, Close, Concurrency, DropReason, Effect, Event, Exit, Generation, NotPreloaded, Notice, Parking,
    Plan, Pool, PreloaderState, Refusal, ReportId, Request, RestartMode, SessionId, Settings, Time, Wanted, WorkerId,
};
use std::num::NonZeroU32;
use std::time::Duration;

const PLAN: Plan =
    Plan { concurrency: Concurrency::Limited(NonZeroU32::MIN), parking: Parking::Unlimited, preloads: true };
const ROOT: &[u8] = b"/apps/A";

struct Story {
    pool: Pool,
    now: Time,
    requests: u64,
}

impl Story {
    fn with(settings: Settings) -> Self {
        Self { pool: Pool::new(settings), now: Time::ZERO, requests: 0 }
    }

    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.pool.step(self.now, event);
        self.pool.check(self.now).unwrap();
        effects
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now = self.now + time;
        self.tell(Event::Tick)
    }

    /// Asks for a session, and looks into the app's root where that is wanted.
    fn ask_at(&mut self, root: &[u8]) -> Vec<Effect> {
        self.requests += 1;
        let request = Request { client: ClientId(1), number: self.requests };
        let asked = Event::Asked { request, root: root.to_vec(), wanted: Wanted::default(), key: None };
        let mut effects = self.tell(asked);
        if let Some(Effect::Inspect { app, generation }) = effects.last() {
            let (app, generation) = (*app, *generation);
            effects = self.tell(Event::Inspected { app, generation, plan: PLAN });
        }
        effects
    }

    fn ask(&mut self) -> Vec<Effect> {
        self.ask_at(ROOT)
    }

    /// The first worker of an app, ready, and its preloader.
    fn begun(&mut self) -> (WorkerId, WorkerId) {
        let preloader = preload(&self.ask());
        let (worker, from) = spawn(&self.tell(Event::Preloaded { preloader, fit: true }));
        assert_eq!(from, Some(preloader));
        let effects = self.tell(Event::Ready { worker });
        self.tell(Event::Closed { client: ClientId(1), session: granted(&effects), how: Close::Finished });
        (preloader, worker)
    }

    fn preloaders(&self) -> Vec<(PreloaderState, u64)> {
        let seen = self.pool.snapshot(self.now);
        seen.apps.iter().flat_map(|app| &app.preloaders).map(|preloader| (preloader.state, preloader.forks)).collect()
    }
}

fn found<T>(effects: &[Effect], what: impl FnMut(&Effect) -> Option<T>) -> T {
    effects.iter().find_map(what).unwrap_or_else(|| panic!("not in {effects:?}"))
}

fn preload(effects: &[Effect]) -> WorkerId {
    found(effects, |effect| if let Effect::Preload { preloader, .. } = effect { Some(*preloader) } else { None })
}

fn spawn(effects: &[Effect]) -> (WorkerId, Option<WorkerId>) {
    found(effects, |effect| if let Effect::Spawn { worker, from, .. } = effect { Some((*worker, *from)) } else { None })
}

fn granted(effects: &[Effect]) -> SessionId {
    found(effects, |effect| if let Effect::Grant { session, .. } = effect { Some(*session) } else { None })
}

fn says(effects: &[Effect], wanted: impl Fn(&Effect) -> bool) -> bool {
    effects.iter().any(wanted)
}

#[test]
fn an_app_is_loaded_once_and_its_workers_are_forked() {
    let mut story = Story::new();
    let (preloader, _) = story.begun();
    assert_eq!(story.preloaders(), [(PreloaderState::Ready, 1)]);
    assert_eq!(story.pool.count(), 1, "a preloader does not count");
    story.ask();
    let (_, from) = spawn(&story.ask());
    assert_eq!(from, Some(preloader));
    assert_eq!(story.preloaders(), [(PreloaderState::Ready, 2)]);
}

#[test]
fn a_preloader_that_died_is_started_again_and_nobody_who_asks_notices() {
    // B73
    let mut story = Story::new();
    let (preloader, _) = story.begun();
    story.tell(Event::Exited { worker: preloader, exit: Exit::Signal(9) });
    assert_eq!(story.preloaders(), []);
    story.ask();
    let second = preload(&story.ask());
    assert_eq!(spawn(&story.tell(Event::Preloaded { preloader: second, fit: true })).1, Some(second));
}

#[test]
fn what_dies_while_it_forks_is_tried_again_once_and_then_workers_are_started_by_their_program() {
    let mut story = Story::new();
    let (preloader, _) = story.begun();
    story.ask();
    let (worker, _) = spawn(&story.ask());
    // Its preloader is of no use, and a new one comes.
    let effects = story.tell(Event::ForkFailed { worker });
    let second = preload(&effects);
    assert!(says(&effects, |effect| *effect == Effect::KillPreloader { preloader, why: DropReason::Useless }));
    let (worker, _) = spawn(&story.tell(Event::Preloaded { preloader: second, fit: true }));
    let effects = story.tell(Event::ForkFailed { worker });
    assert_eq!(spawn(&effects).1, None);
    let said =
        |effect: &Effect| matches!(effect, Effect::Notice(Notice::NotPreloaded { why: NotPreloaded::ForksFail, .. }));
    assert!(says(&effects, said));
    assert!(!says(&story.ask(), said), "it is said once");
}

#[test]
fn an_app_that_must_not_be_forked_is_started_by_its_program_and_that_is_said_once() {
    let mut story = Story::new();
    let preloader = preload(&story.ask());
    let effects = story.tell(Event::Preloaded { preloader, fit: false });
    assert_eq!(spawn(&effects).1, None);
    let said =
        |effect: &Effect| matches!(effect, Effect::Notice(Notice::NotPreloaded { why: NotPreloaded::Unfit, .. }));
    assert!(says(&effects, said));
    story.tell(Event::Exited { worker: preloader, exit: Exit::Status(0) });
    let effects = story.ask();
    assert_eq!(spawn(&effects).1, None);
    assert!(!says(&effects, said));
}

#[test]
fn an_app_that_cannot_be_loaded_is_one_failure_whoever_waits() {
    // B74
    let mut settings = Settings::default();
    settings.defaults.breaker_failures = NonZeroU32::new(2);
    let mut story = Story::with(settings);
    let preloader = preload(&story.ask());
    story.ask();
    story.ask();
    let report = ReportId(7);
    let effects = story.tell(Event::SpawnFailed { worker: preloader, report, gone: true });
    let refused = effects.iter().filter(
        |effect| matches!(effect, Effect::Refuse { refusal: Refusal::SpawnFailed(told), .. } if *told == report),
    );
    assert_eq!(refused.count(), 3);
    assert!(!says(&effects, |effect| matches!(effect, Effect::Notice(Notice::BreakerOpened { .. }))));
    assert_eq!(story.pool.count(), 0);
    // The next who asks tries again.
    preload(&story.ask());
}

#[test]
fn a_preloader_has_its_time_to_load_and_what_it_said_reaches_whoever_waits() {
    // B72
    let mut settings = Settings::default();
    settings.defaults.max_queue_wait = None;
    let mut story = Story::with(settings);
    let preloader = preload(&story.ask());
    let effects = story.pass(Settings::default().defaults.start_timeout);
    assert!(says(&effects, |effect| *effect == Effect::KillPreloader { preloader, why: DropReason::StartTimedOut }));
    let effects = story.tell(Event::SpawnFailed { worker: preloader, report: ReportId(1), gone: true });
    assert!(says(&effects, |effect| matches!(effect, Effect::Refuse { .. })));
}

#[test]
fn one_that_nothing_is_forked_from_leaves_and_one_that_is_used_stays() {
    // B39
    let mut settings = Settings { max_preloader_idle: Some(Duration::from_secs(60)), ..Settings::default() };
    settings.defaults.max_idle = None;
    let mut story = Story::with(settings);
    let (preloader, _) = story.begun();
    story.pass(Duration::from_secs(40));
    story.ask();
    let (worker, _) = spawn(&story.ask());
    story.tell(Event::Ready { worker });
    let dropped = |effect: &Effect| *effect == Effect::DropPreloader { preloader, why: DropReason::Unused };
    assert!(!says(&story.pass(Duration::from_secs(40)), dropped));
    assert!(says(&story.pass(Duration::from_secs(20)), dropped));
    assert_eq!(story.pool.count(), 2, "its workers stay");
}

#[test]
fn a_restart_never_forks_old_code() {
    // B61
    for mode in [RestartMode::Graceful, RestartMode::Kill] {
        let mut story = Story::new();
        let (old, _) = story.begun();
        let effects = story.tell(Event::Restart { request: None, root: ROOT.to_vec(), mode });
        let (app, generation): (AppId, Generation) = found(&effects, |effect| match effect {
            Effect::Inspect { app, generation } => Some((*app, *generation)),
            _ => None,
        });
        let new = preload(&story.tell(Event::Inspected { app, generation, plan: PLAN }));
        let (worker, from) = spawn(&story.tell(Event::Preloaded { preloader: new, fit: true }));
        assert_eq!(from, Some(new), "{mode:?}");
        story.tell(Event::Ready { worker });
        let left = story.preloaders();
        assert!(left.contains(&(PreloaderState::Stopping, 1)) && left.len() == 2, "{mode:?}: {left:?}");
        story.tell(Event::Exited { worker: old, exit: Exit::Status(0) });
        assert_eq!(story.preloaders(), [(PreloaderState::Ready, 1)]);
    }
}

#[test]
fn where_there_is_no_place_for_a_preloader_workers_are_started_by_their_program() {
    let mut story = Story::with(Settings { max_preloaders: 1, ..Settings::default() });
    let (preloader, _) = story.begun();
    assert_eq!(spawn(&story.ask_at(b"/apps/B")).1, None);
    // Once it is of no use it makes place for the next app's.
    let effects = {
        story.now = story.now + Duration::from_secs(11);
        story.ask_at(b"/apps/C")
    };
    assert!(says(&effects, |effect| *effect == Effect::DropPreloader { preloader, why: DropReason::Evicted }));
    story.tell(Event::Exited { worker: preloader, exit: Exit::Status(0) });
    preload(&story.ask_at(b"/apps/D"));

    let mut none = Story::with(Settings { max_preloaders: 0, ..Settings::default() });
    assert_eq!(spawn(&none.ask()).1, None);
}

#[test]
fn the_pool_ends_when_its_preloaders_have() {
    let mut story = Story::new();
    let (preloader, worker) = story.begun();
    let effects = story.tell(Event::Ending { grace: Duration::ZERO });
    assert!(says(&effects, |effect| *effect == Effect::DropPreloader { preloader, why: DropReason::PoolEnding }));
    let effects = story.tell(Event::Exited { worker, exit: Exit::Status(0) });
    assert!(!effects.contains(&Effect::Ended));
    let effects = story.tell(Event::Exited { worker: preloader, exit: Exit::Status(0) });
    assert!(effects.contains(&Effect::Ended));
}
