//! What many broken apps, or one that fails without end, cost the pool and everybody else.

use hatchery_pool::{
    AppId, ClientId, Close, Concurrency, Effect, Event, Exit, Notice, Parking, Plan, Pool, Refusal, ReportId, Request,
    Settings, Time, Wanted, WorkerId,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The number that the pool states.
const REMEMBERED: usize = 1000;
const PLAN: Plan = Plan {
    concurrency: Concurrency::Limited(std::num::NonZeroU32::MIN),
    parking: Parking::For(Duration::from_millis(1500)),
    preloads: false,
};

fn at(milliseconds: u64) -> Time {
    Time::from_start(Duration::from_millis(milliseconds))
}

fn ask(number: u64, root: String) -> Event {
    let request = Request { client: ClientId(1), number };
    Event::Asked { request, root: root.into_bytes(), wanted: Wanted::default(), key: None }
}

/// Asks for an app whose root can't be started.
fn fail(pool: &mut Pool, number: u64, now: Time) -> Vec<Effect> {
    let asked = pool.step(now, ask(number, format!("/srv/{number}")));
    let found = asked.iter().find_map(|effect| match *effect {
        Effect::Inspect { app, generation } => Some((app, generation)),
        _ => None,
    });
    let (app, generation) = found.expect("its root is looked into");
    pool.step(now, Event::InspectFailed { app, generation, report: ReportId(number) })
}

#[test]
fn of_broken_apps_that_nobody_uses_so_many_are_remembered_and_the_first_to_be_over_are_forgotten() {
    let mut pool = Pool::new(Settings::default());
    for number in 1..=REMEMBERED as u64 {
        let effects = fail(&mut pool, number, at(number));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Forget { .. })), "{effects:?}");
    }
    assert_eq!(pool.snapshot(at(1000)).apps.len(), REMEMBERED);
    for number in REMEMBERED as u64 + 1..=REMEMBERED as u64 + 500 {
        let effects = fail(&mut pool, number, at(number));
        let first = AppId(number - REMEMBERED as u64);
        assert!(effects.contains(&Effect::Notice(Notice::Forgotten { app: first })), "{effects:?}");
        assert_eq!(pool.snapshot(at(number)).apps.len(), REMEMBERED);
        assert_eq!(pool.check(at(number)), Ok(()));
    }
    // And all of them when their failures count no longer.
    let _ = pool.step(at(1500 + 300_000), Event::Tick);
    assert_eq!((pool.snapshot(at(301_500)).apps.len(), pool.deadline()), (0, None));
}

/// One pool with an app B that is asked for ten times a second, and an app A beside it, or not.
struct Neighbours {
    pool: Pool,
    now: Time,
    /// What follows, and when.
    arranged: BTreeMap<(Time, u64), Event>,
    last: u64,
    /// When each `get` for B came, and how long it took.
    asked: BTreeMap<u64, Time>,
    waits: Vec<Duration>,
    disabled: u32,
}

impl Neighbours {
    fn new() -> Self {
        Self {
            pool: Pool::new(Settings::default()),
            now: Time::ZERO,
            arranged: BTreeMap::new(),
            last: 0,
            asked: BTreeMap::new(),
            waits: Vec::new(),
            disabled: 0,
        }
    }

    fn arrange(&mut self, milliseconds: u64, event: Event) {
        self.last += 1;
        self.arranged.insert((self.now + Duration::from_millis(milliseconds), self.last), event);
    }

    fn run(&mut self, until: Time) {
        loop {
            let arranged = self.arranged.first_key_value().map(|(&(at, _), _)| at);
            let next = arranged.into_iter().chain(self.pool.deadline()).min();
            let Some(next) = next.filter(|&next| next <= until) else { break };
            self.now = next;
            let due = self.arranged.first_entry().filter(|entry| entry.key().0 == next);
            let event = due.map_or(Event::Tick, |entry| entry.remove());
            self.tell(event);
        }
        self.now = until;
    }

    fn tell(&mut self, event: Event) {
        for effect in self.pool.step(self.now, event) {
            self.follow(effect);
        }
        assert_eq!(self.pool.check(self.now), Ok(()));
    }

    fn is_a(&self, worker: WorkerId) -> bool {
        self.pool.app_of(worker).and_then(|app| self.pool.root(app)) == Some(b"/srv/a")
    }

    fn follow(&mut self, effect: Effect) {
        match effect {
            Effect::Inspect { app, generation } => self.arrange(1, Event::Inspected { app, generation, plan: PLAN }),
            Effect::Spawn { worker, .. } => self.arrange(50, Event::Ready { worker }),
            Effect::Stop { worker, .. } => self.arrange(10, Event::Exited { worker, exit: Exit::Status(0) }),
            // Whoever is served by A sees it crash.
            Effect::Grant { worker, .. } if self.is_a(worker) => {
                self.arrange(1, Event::Exited { worker, exit: Exit::Signal(11) });
            }
            Effect::Grant { request, session, .. } => {
                let asked = self.asked.remove(&request.number).expect("B was asked for");
                self.waits.push(self.now.since(asked));
                self.arrange(150, Event::Closed { client: ClientId(1), session, how: Close::Finished });
            }
            Effect::Refuse { refusal: Refusal::Disabled { .. }, .. } => self.disabled += 1,
            Effect::Refuse { request, refusal } => {
                assert!(!self.asked.contains_key(&request.number), "B is refused: {refusal:?}");
            }
            _ => {}
        }
    }

    /// Ten minutes of it. How long each `get` for B waited.
    fn play(mut self, with_a: bool) -> (Vec<Duration>, u32) {
        for number in 0..6000 {
            self.asked.insert(number, self.now);
            self.tell(ask(number, "/srv/b".into()));
            if with_a {
                self.tell(ask(1_000_000 + number, "/srv/a".into()));
            }
            self.run(at((number + 1) * 100));
        }
        (self.waits, self.disabled)
    }
}

#[test]
fn beside_an_app_that_crashes_without_end_another_is_served_as_if_it_were_alone() {
    let (alone, _) = Neighbours::new().play(false);
    let (beside, disabled) = Neighbours::new().play(true);
    assert!(disabled > 5000, "A is disabled for most of the time: {disabled}");
    assert_eq!(alone.len(), beside.len());
    assert_eq!(alone, beside);
}
