//! What clients, operators and fate do while faults are on.

use crate::books::{Checked, Use};
use crate::knobs::{AppKnobs, tenant};
use crate::world::World;
use hatchery_pool::{
    AppId, ClientId, Close, ConnectionId, Event, Exit, ReportId, Request, RestartMode, SessionId, Time, WorkerId,
};
use std::num::NonZeroU32;
use std::time::Duration;

impl World {
    pub(crate) fn act(&mut self) -> Checked {
        let (closing, operating) = (self.knobs.closing, self.knobs.operating);
        if self.random.percent(self.knobs.deploying) {
            return self.deploy();
        }
        if self.random.percent(operating) {
            return self.operate();
        }
        if self.random.percent(closing) {
            return self.close_one();
        }
        match self.random.number(0..=99) {
            0..=4 => self.cancel_one(),
            5..=7 => self.lose_client(),
            8..=11 => self.crash_one(),
            12..=16 => self.say_nonsense(),
            _ => self.ask(),
        }
    }

    pub(crate) fn ask(&mut self) -> Checked {
        let Some(client) = self.random.pick(&self.clients) else { return Ok(()) };
        let request = self.new_request(client);
        self.ask_as(request)
    }

    fn ask_as(&mut self, request: Request) -> Checked {
        let app = self.random.pick(&self.knobs.apps).expect("there is an app");
        let mut wanted = app.wanted;
        let mut root = app.root;
        let bounded = self.knobs.settings.bounded;
        match self.random.number(0..=99) {
            0..=2 => wanted.max_queue = Some(1),
            3..=4 if bounded => wanted.operators = Some("start"),
            5..=6 if bounded => wanted.linger = Some(Duration::from_secs(100)),
            7..=8 if bounded => root = b"/elsewhere".to_vec(),
            _ => {}
        }
        self.tell(Event::Asked { request, root, wanted, key: None })
    }

    pub(crate) fn close_one(&mut self) -> Checked {
        let parked = self.random.percent(10);
        let Some((client, session)) = self.random.pick(&self.sessions(if parked { Use::Parked } else { Use::Open }))
        else {
            return Ok(());
        };
        let how = if self.faults && self.random.percent(self.knobs.abandoning) {
            Close::Abandoned
        } else if self.random.percent(60) {
            Close::Kept
        } else {
            Close::Finished
        };
        self.tell(Event::Closed { client, session, how })
    }

    fn cancel_one(&mut self) -> Checked {
        let open: Vec<Request> = self.books.open.keys().copied().collect();
        match self.random.pick(&open) {
            Some(request) => self.tell(Event::Cancelled { request }),
            None => Ok(()),
        }
    }

    fn lose_client(&mut self) -> Checked {
        let Some(client) = self.random.pick(&self.clients) else { return Ok(()) };
        self.clients.retain(|&other| other != client);
        self.connect_client();
        self.tell(Event::ClientGone { client })
    }

    fn crash_one(&mut self) -> Checked {
        if let Some(worker) = self.random.pick(&self.running()) {
            let exit = self.exit();
            self.end_process(worker, Duration::ZERO, exit);
        }
        Ok(())
    }

    /// How a process ends that nobody told to: by itself, or by somebody else's hand.
    pub(crate) fn exit(&mut self) -> Exit {
        match self.random.number(0..=9) {
            0..=3 => Exit::Signal(11),
            4 => Exit::Status(0),
            5 | 6 => Exit::Status(1),
            7 => Exit::OutOfMemory,
            8 => Exit::Signal(9),
            _ => Exit::Signal(15),
        }
    }

    /// The operator's configuration.
    pub(crate) fn configure(&mut self) -> Checked {
        if self.knobs.registered {
            for app in self.knobs.apps.clone() {
                let settings = app.settings(&self.knobs.settings.defaults);
                self.tell(Event::Added { request: None, root: app.root, settings })?;
            }
        }
        self.tell(Event::Configured)
    }

    /// What is stale, foreign or not built yet: the pool is told all the same.
    fn say_nonsense(&mut self) -> Checked {
        let far = self.random.number(0..=1_000_000);
        let (worker, session) = (WorkerId(1_000_000 + far), SessionId(1_000_000 + far));
        let client = self.random.pick(&self.clients).unwrap_or(ClientId(0));
        let held = self.random.pick(&self.sessions(Use::Open));
        let root = self.random.pick(&self.knobs.apps).expect("there is an app").root;
        let known = self.machine.pool.app(&root);
        let request = self.new_request(client);
        match (self.random.number(0..=11), known) {
            (0, _) => self.tell(Event::Ready { worker }),
            (1, _) => self.tell(Event::Exited { worker, exit: Exit::Status(1) }),
            (2, _) => self.tell(Event::SpawnFailed { worker, report: ReportId(0), gone: true }),
            (3, _) => self.tell(Event::Lingered { connection: ConnectionId(1_000_000 + far) }),
            (4, _) => self.tell(Event::Closed { client, session, how: Close::Finished }),
            (5, _) => self.tell(Event::Reconnected { request, session: held.map_or(session, |(_, session)| session) }),
            (6, _) => match held {
                Some((_, session)) => self.tell(Event::Closed { client: ClientId(0), session, how: Close::Finished }),
                None => self.tell(Event::Retire { request: Some(request), worker }),
            },
            (7, _) => {
                let open: Vec<Request> = self.books.open.keys().copied().collect();
                self.random.pick(&open).map_or(Ok(()), |request| self.ask_as(request))
            }
            (8, _) => self.tell(Event::Cancelled { request }),
            (9, _) => self.tell(Event::Tick),
            (10, Some(app)) if !self.books.is_swapping(app) => self.tell(Event::SwapDone { app, report: None }),
            (10, _) => self.tell(Event::FilesChanged { app: AppId(1_000_000) }),
            _ => {
                self.tell(Event::Sampled { worker, resident_bytes: far })?;
                self.tell(Event::Pinged { worker, alive: false })?;
                self.tell(Event::Restart { request: None, root: b"/unheard-of".to_vec(), mode: RestartMode::Graceful })
            }
        }
    }

    fn operate(&mut self) -> Checked {
        let client = self.random.pick(&self.clients).unwrap_or(ClientId(0));
        let request = self.random.percent(80).then(|| self.new_request(client));
        let app = self.random.pick(&self.knobs.apps).expect("there is an app");
        let root = if self.random.percent(5) { b"/unheard-of".to_vec() } else { app.root.clone() };
        let event = match self.random.number(0..=16) {
            0 | 1 => Event::Clear { request },
            2 | 3 => Event::SetMax { request, max: NonZeroU32::new(self.random.count(1..=6)).expect("not zero") },
            4 => {
                let max_per_app = self.random.percent(70).then(|| self.random.count(4..=5)).and_then(NonZeroU32::new);
                Event::SetMaxPerApp { request, max_per_app }
            }
            5 => {
                let max_idle = self.random.percent(70).then(|| self.random.millis(0..=3000));
                Event::SetMaxIdleTime { request, max_idle }
            }
            6 => {
                let mut settings = app.settings(&self.machine.pool.settings().defaults);
                if self.random.percent(10) {
                    settings.max_queue += 1;
                }
                Event::Added { request, root: app.root, settings }
            }
            15 | 16 => {
                // It moves to another tenant, or to none.
                let mut settings = app.settings(&self.machine.pool.settings().defaults);
                settings.tenant = self.random.percent(80).then(|| tenant(&mut self.random));
                Event::Added { request, root: app.root, settings }
            }
            7 => Event::Removed { request, root },
            8 => Event::StopApp { request, root },
            9 => Event::StartApp { request, root },
            10 => Event::Disable { request, root, why: "maintenance".into() },
            11 => Event::Enable { request, root },
            12 | 13 => {
                let worker = self.random.pick(&self.running()).unwrap_or(WorkerId(1_000_000));
                Event::Retire { request, worker }
            }
            _ => {
                let state = if self.random.percent(25) { Use::Lingering } else { Use::Open };
                let session = self.random.pick(&self.sessions(state));
                Event::EndSession { request, session: session.map_or(SessionId(1_000_000), |(_, session)| session) }
            }
        };
        self.tell(event)
    }

    /// Everything is switched on again.
    pub(crate) fn restore(&mut self) -> Checked {
        for root in self.knobs.apps.iter().map(|app| app.root.clone()).collect::<Vec<_>>() {
            self.tell(Event::StartApp { request: None, root: root.clone() })?;
            self.tell(Event::Enable { request: None, root })?;
        }
        Ok(())
    }

    /// One app is asked for over and over.
    pub(crate) fn hog(&mut self) -> Checked {
        let app = self.knobs.apps[0].clone();
        self.ask_for(&app)
    }

    pub(crate) fn ask_for(&mut self, app: &AppKnobs) -> Checked {
        let Some(client) = self.random.pick(&self.clients) else { return Ok(()) };
        let request = self.new_request(client);
        self.tell(Event::Asked { request, root: app.root.clone(), wanted: app.wanted.clone(), key: None })
    }

    pub(crate) fn run_until(&mut self, until: Time) -> Checked {
        while self.advance(until)? {}
        Ok(())
    }
}
