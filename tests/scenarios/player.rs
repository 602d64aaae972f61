//! Plays the steps of a scenario through clients of a real pool, and awaits what is to come of them.

use crate::clients::{Answer, Connection, Get};
use crate::runnable;
use crate::support::apps::App;
use crate::support::{PATIENCE, front, processes};
use hatchery_pool::scenario::{
    App as Letter, Client, EndedBy, Fate, Is, Label, On, Order, Scenario, Starts, Step, Told, Why,
};
use hatchery_pool::{Close, RestartMode};
use hatchery_pool_client::{AppStatus, Ended, PoolConfig, PoolServer, Status, WorkerStatus};
use hatchery_protocol::config::Admin;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

type Played = Result<(), String>;

/// Two clients are there always; a scenario that names only one, and parks no connections, has its sessions
/// with both in turn.
const ALWAYS: [Client; 2] = [1, 2];
/// How long after a step the next may come.
const DELAY: Duration = Duration::from_secs(3);

pub(crate) struct Player {
    scenario: &'static Scenario,
    server: PoolServer,
    pool: String,
    core: i32,
    clients: BTreeMap<Client, Connection>,
    in_turn: bool,
    gets: BTreeMap<Label, Get>,
    apps: BTreeMap<Letter, App>,
    stubborn: BTreeSet<Letter>,
    /// Who asked for a restart, and waits for what comes of it.
    askers: BTreeMap<Label, Child>,
    /// Processes that are stopped.
    hanging: BTreeSet<i32>,
    admin: TempDir,
    /// Workers that have had the word they wait for.
    told: BTreeSet<u64>,
    ending: bool,
}

impl Player {
    pub(crate) fn new(scenario: &'static Scenario, mut config: PoolConfig, log: &Path) -> Result<Self, String> {
        config.log.file = Some(log.to_owned());
        let admin = front::folder();
        config.admin = Admin::At(admin.path().join("admin.sock"));
        let builder = PoolServer::builder().config(config).pool_server(crate::support::HATCHERY);
        let server = builder.start().map_err(|error| error.to_string())?;
        let connect = |client| Ok((client, Connection::new(&server)?));
        let clients = ALWAYS.into_iter().map(connect).collect::<Result<_, String>>()?;
        let (pool, core) = (processes::pool_id(server.pid()), processes::role(server.pid(), "core"));
        Ok(Self {
            scenario,
            server,
            pool,
            core: core.ok_or("there is no core")?,
            clients,
            in_turn: !scenario.steps().any(|(_, step)| is_one_clients_own(&step)),
            gets: BTreeMap::new(),
            apps: BTreeMap::new(),
            stubborn: BTreeSet::new(),
            askers: BTreeMap::new(),
            hanging: BTreeSet::new(),
            admin,
            told: BTreeSet::new(),
            ending: false,
        })
    }

    /// Leaves the pool, which must leave nothing behind.
    pub(crate) fn end(mut self) -> Played {
        let restarted = !self.ending && !processes::lives(self.core);
        self.gets.clear();
        self.clients.clear();
        self.server.shutdown(PATIENCE).map_err(|error| error.to_string())?;
        until(|| expect(&processes::of_pool(&self.pool), &Vec::new()))?;
        if restarted { Err("the core died".into()) } else { Ok(()) }
    }

    pub(crate) fn play(&mut self, step: &Step) -> Played {
        match *step {
            Step::Get { app, session, client, .. } => self.ask(app, session, client),
            Step::Cancel { session } => {
                let get = self.gets.get_mut(session).ok_or("there was no such get")?;
                let connection = &self.clients[&get.client];
                connection.cancel(get);
                self.heard(connection)
            }
            Step::Close { session, how } => self.close(session, how),
            Step::ClientDies { client } => self.die(client),
            Step::WorkerReady { app } => self.tell_starting(app, "ready"),
            Step::WorkerFails { app } => self.tell_starting(app, "fail"),
            Step::KillWorker { session } => self.end_process(session, Signal::SIGKILL),
            Step::Crash { session } => self.end_process(session, Signal::SIGABRT),
            Step::Hang { session, on } => {
                let pid = self.pid(session)?;
                if on {
                    self.hanging.insert(pid)
                } else {
                    self.hanging.remove(&pid)
                };
                processes::kill(pid, if on { Signal::SIGSTOP } else { Signal::SIGCONT });
                Ok(())
            }
            Step::Order { order: Order::Disable, app } => self.say(&["disable", &self.root(app), "maintenance"]),
            Step::Order { order: Order::Enable, app } => self.say(&["enable", &self.root(app)]),
            Step::Restart { app, mode, asker } => self.restart(app, mode, asker),
            Step::Told { asker, what } => until(|| self.expect_told(asker, what)),
            Step::Retire { session } => {
                let pid = self.pid(session)?.to_string();
                // Who has left by then needs no order.
                if processes::lives(self.pid(session)?) { self.say(&["retire", &pid]) } else { Ok(()) }
            }
            Step::Stubborn { app } => {
                self.stubborn.insert(app);
                Ok(())
            }
            Step::Lingered { session } => {
                std::fs::write(self.get(session)?.root.join(session), "").map_err(|error| error.to_string())
            }
            Step::SetMax(max) => self.operator()?.ask(async |client| client.set_max(max.get()).await),
            Step::SetMaxPerApp(max) => {
                let max = max.map_or(0, std::num::NonZero::get);
                self.operator()?.ask(async |client| client.set_max_per_app(max).await)
            }
            Step::SetMaxIdle(idle) => {
                self.operator()?.ask(async |client| client.set_max_idle(idle.unwrap_or_default()).await)
            }
            Step::Clear => self.operator()?.ask(async |client| client.clear().await),
            Step::EndPool { .. } => {
                self.ending = true;
                processes::kill(self.server.pid(), Signal::SIGTERM);
                Ok(())
            }
            Step::Pass(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            _ => until(|| self.expect(step)),
        }
    }

    fn ask(&mut self, app: Letter, session: Label, client: Client) -> Played {
        let stubborn = self.stubborn.contains(&app);
        let root = self.apps.entry(app).or_insert_with(|| runnable::app(self.scenario, stubborn)).root().to_owned();
        let client = if self.in_turn { ALWAYS[self.gets.len() % ALWAYS.len()] } else { client };
        if !self.clients.contains_key(&client) {
            self.clients.insert(client, Connection::new(&self.server)?);
        }
        let get = self.clients[&client].get(client, &root)?;
        self.gets.insert(session, get);
        // What follows from it does so by itself, and what a scenario tells next comes after it.
        until(|| expect(&is_inspecting(&self.status()?), &false))
    }

    fn close(&mut self, session: Label, how: Close) -> Played {
        self.pid(session)?;
        let get = self.gets.get_mut(session).expect("it was just found");
        let mut open = get.take_session().ok_or("it is closed already")?;
        let connection = &self.clients[&get.client];
        match how {
            Close::Finished => connection.finish(open)?,
            Close::Kept => {
                let copy = std::os::fd::AsFd::as_fd(&open).try_clone_to_owned();
                get.parked = Some(copy.map_err(|error| error.to_string())?);
                connection.keep(open)?;
            }
            Close::Abandoned => {
                connection.busy_until(&mut open, session)?;
                open.abandon();
            }
        }
        self.heard(connection)
    }

    /// The pool has heard then what was said on this connection, unless it has gone, as it was told to.
    fn heard(&self, connection: &Connection) -> Played {
        if self.ending { Ok(()) } else { connection.status().map(|_| ()) }
    }

    /// Its workers compute for nobody then.
    fn die(&mut self, client: Client) -> Played {
        let connection = self.clients.remove(&client).ok_or("there is no such client")?;
        let mut open = Vec::new();
        for (label, get) in self.gets.iter_mut().filter(|(_, get)| get.client == client) {
            get.parked = None;
            if let Some(mut session) = get.take_session() {
                connection.busy_until(&mut session, label)?;
                open.push(session);
            }
        }
        connection.die();
        drop(open);
        Ok(())
    }

    fn end_process(&self, session: Label, signal: Signal) -> Played {
        let pid = self.pid(session)?;
        processes::kill(pid, signal);
        until(|| expect(&worker(&self.status()?, pid).is_none(), &true))
    }

    /// Asks for a restart, and waits until it has begun.
    fn restart(&mut self, app: Letter, mode: RestartMode, asker: Label) -> Played {
        let before = self.newest(app)?.ok_or("it is not known")?;
        let root = self.root(app);
        let mut verb = vec!["restart", root.as_str()];
        verb.extend((mode == RestartMode::Kill).then_some("--kill"));
        let mut command = self.verb(&verb);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.askers.insert(asker, command.spawn().map_err(|error| error.to_string())?);
        // One of which nothing was left is forgotten then.
        until(|| expect(&self.newest(app)?.is_none_or(|newest| newest > before), &true))
    }

    /// The last generation of an app that has begun.
    fn newest(&self, app: Letter) -> Result<Option<u64>, String> {
        let (status, root) = (self.status()?, self.root(app));
        let seen = status.apps.iter().find(|seen| seen.root == root);
        let rolling = |seen: &AppStatus| seen.restart.as_ref().map_or(0, |restart| restart.generation);
        Ok(seen.map(|seen| rolling(seen).max(seen.generation)))
    }

    /// Why somebody is refused is said in words, which tests of the command read.
    fn expect_told(&mut self, asker: Label, what: Told) -> Played {
        let asked = self.askers.get_mut(asker).ok_or_else(|| format!("there was no {asker}"))?;
        let status = asked.try_wait().map_err(|error| error.to_string())?;
        let expected = match what {
            Told::Nothing => None,
            Told::Done => Some(Some(0)),
            Told::Refused(_) => Some(Some(1)),
        };
        expect(&status.map(|status| status.code()), &expected)
    }

    fn verb(&self, verb: &[&str]) -> Command {
        let mut command = front::hatchery(self.admin.path(), verb);
        command.arg("--admin").arg(self.admin.path().join("admin.sock"));
        command
    }

    /// A verb of the operator's.
    fn say(&self, verb: &[&str]) -> Played {
        let output = self.verb(verb).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// To the worker that is starting longest; the pool knows what came of it when this returns.
    fn tell_starting(&mut self, app: Option<Letter>, word: &str) -> Played {
        let (id, pid, root) = until(|| {
            let status = self.status()?;
            let apps = status.apps.iter().filter(|seen| app.is_none_or(|app| seen.root == self.root(app)));
            let starting = apps.flat_map(|app| app.workers.iter().map(move |worker| (worker, &app.root)));
            let starting = starting.filter(|(worker, _)| worker.state == "starting" && !self.told.contains(&worker.id));
            let (worker, root) = starting.min_by_key(|(worker, _)| worker.id).ok_or("no worker is starting")?;
            if worker.pid == 0 {
                Err("it has no process yet".into())
            } else {
                Ok((worker.id, worker.pid, root.clone()))
            }
        })?;
        self.told.insert(id);
        std::fs::write(Path::new(&root).join(format!("{word}-{pid}")), "").map_err(|error| error.to_string())?;
        until(|| {
            let status = self.status()?;
            let starting = worker(&status, pid).is_some_and(|worker| worker.state == "starting");
            expect(&starting, &false)
        })
    }

    fn expect(&self, step: &Step) -> Played {
        match *step {
            Step::Granted { session, on } => return self.expect_grant(session, on),
            Step::Refused { session, why } => {
                return match *self.get(session)?.answer() {
                    Answer::Refused(found, _) => expect(&found, &why),
                    _ => Err("it is not refused".into()),
                };
            }
            Step::DisabledFor { session, time } => {
                return match *self.get(session)?.answer() {
                    Answer::Refused(Why::Disabled, Some(left)) if left <= time && left + DELAY > time => Ok(()),
                    Answer::Refused(why, left) => Err(format!("it is refused, {why:?} for {left:?}")),
                    _ => Err("it is not refused".into()),
                };
            }
            Step::Ended { session, why } => {
                let found = self.get(session)?.ended().and_then(ended_by);
                // When the pool has gone since, a client knows no more than that.
                let gone = self.ending && found == Some(EndedBy::WorkerGone) && !processes::lives(self.server.pid());
                return expect(&if gone { Some(EndedBy::PoolEnding) } else { found }, &Some(why));
            }
            Step::PoolEnded => return expect(&processes::lives(self.server.pid()), &false),
            _ => {}
        }
        let seen = self.settled()?;
        let all = || seen.apps.iter().flat_map(|app| &app.workers);
        match *step {
            Step::Waiting { session } => expect(&self.get(session)?.is_open(), &true),
            Step::Count { app: None, workers } => expect(&(seen.count, all().count()), &(workers, workers as usize)),
            Step::Count { app: Some(app), workers } => {
                let found = seen.apps.iter().find(|seen| seen.root == self.root(app));
                expect(&found.map_or(0, |app| app.workers.len()), &(workers as usize))
            }
            Step::Starting { workers } => {
                expect(&all().filter(|worker| worker.state == "starting").count(), &(workers as usize))
            }
            Step::InGeneration { app, generation } => {
                let found = seen.apps.iter().find(|seen| seen.root == self.root(app));
                expect(&found.map(|app| app.generation), &Some(generation))
            }
            Step::Active { workers } => expect(&seen.active, &workers),
            Step::WaitingTotal { gets } => expect(&seen.waiting, &gets),
            Step::Worker { session, is } => {
                let pid = self.pid(session)?;
                match worker(&seen, pid) {
                    Some(worker) => expect(&worker.state.as_str(), &state(is)),
                    None => expect(&(is, processes::lives(pid)), &(Is::Gone, false)),
                }
            }
            Step::Forgotten { app, so } => expect(&seen.apps.iter().all(|seen| seen.root != self.root(app)), &so),
            Step::Disabled { app, so } => {
                let found = seen.apps.iter().find(|seen| seen.root == self.root(app));
                expect(&found.is_some_and(|app| app.state == "disabled"), &so)
            }
            Step::Was { session, what: Fate::Recorded, so } => {
                let pid = self.pid(session)?;
                expect(&seen.post_mortems.iter().any(|record| record.pid == pid), &so)
            }
            _ => Err("that is no expectation".into()),
        }
    }

    fn expect_grant(&self, session: Label, on: On) -> Played {
        let seen = |label: Label| {
            let found = self.get(label)?.granted(|granted| (granted.pid, granted.socket, granted.reused));
            found.ok_or_else(|| format!("{label} is not granted"))
        };
        if let Answer::Wrong(what) = &*self.get(session)?.answer() {
            return Err(what.clone());
        }
        let (pid, socket, reused) = seen(session)?;
        match on {
            On::Anything => Ok(()),
            On::WorkerOf(other) => expect(&pid, &seen(other)?.0),
            On::AnotherWorkerThan(other) if pid == seen(other)?.0 => Err(format!("it is on the same, {pid}")),
            On::AnotherWorkerThan(_) => Ok(()),
            On::LeaseOf(other) => expect(&(socket, reused), &(seen(other)?.1, true)),
            On::FreshConnection => expect(&reused, &false),
        }
    }

    /// The figures, once everything has followed that follows by itself: only then is something that is not there
    /// something that won't come.
    fn settled(&self) -> Result<Status, String> {
        if self.ending && !processes::lives(self.server.pid()) {
            let version = String::new();
            let (apps, post_mortems) = (Vec::new(), Vec::new());
            let (uptime_s, tenants) = (0.0, Vec::new());
            return Ok(Status {
                version,
                max: 0,
                count: 0,
                active: 0,
                waiting: 0,
                uptime_s,
                apps,
                tenants,
                post_mortems,
            });
        }
        let status = self.status()?;
        let open = self.gets.values().filter(|get| get.is_open()).count();
        if status.waiting as usize != open {
            return Err(format!("{} wait for an answer, and {open} for one to arrive", status.waiting));
        }
        for app in &status.apps {
            let obedient = !self.stubborn.iter().any(|stubborn| self.root(*stubborn) == app.root);
            let moves = |worker: &&WorkerStatus| match worker.state.as_str() {
                "starting" => self.scenario.starts == Starts::AtOnce,
                "stopping" => obedient && !self.hanging.contains(&worker.pid),
                _ => false,
            };
            if let Some(worker) = app.workers.iter().find(moves) {
                return Err(format!("{} is still {}", worker.pid, worker.state));
            }
        }
        if is_inspecting(&status) { Err("an app is being inspected".into()) } else { Ok(status) }
    }

    fn status(&self) -> Result<Status, String> {
        self.operator()?.status()
    }

    /// Client 1, or who comes after it.
    fn operator(&self) -> Result<&Connection, String> {
        self.clients.values().next().ok_or_else(|| "all clients are dead".into())
    }

    fn get(&self, session: Label) -> Result<&Get, String> {
        self.gets.get(session).ok_or_else(|| format!("there was no {session}"))
    }

    /// The worker's process of a session, which it waits for.
    fn pid(&self, session: Label) -> Result<i32, String> {
        until(|| self.get(session)?.granted(|granted| granted.pid).ok_or_else(|| format!("{session} is not granted")))
    }

    fn root(&self, app: Letter) -> String {
        self.apps.get(&app).map(|app| app.root().to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Whether it matters whose step it is.
fn is_one_clients_own(step: &Step) -> bool {
    match *step {
        Step::Get { client, .. } => client != 1,
        Step::Close { how, .. } => how == Close::Kept,
        Step::ClientDies { .. } => true,
        _ => false,
    }
}

/// Waits until it succeeds. No duration that anybody could guess: what doesn't come fails after a long while.
fn until<T>(mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let by = Instant::now() + PATIENCE;
    loop {
        let result = attempt();
        if result.is_ok() || Instant::now() > by {
            return result;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Played {
    if found == expected { Ok(()) } else { Err(format!("it is {found:?} and not {expected:?}")) }
}

fn is_inspecting(status: &Status) -> bool {
    status.apps.iter().any(|app| app.limit.as_deref() == Some("inspecting"))
}

fn worker(status: &Status, pid: i32) -> Option<&WorkerStatus> {
    status.apps.iter().flat_map(|app| &app.workers).find(|worker| worker.pid == pid)
}

fn state(is: Is) -> &'static str {
    match is {
        Is::Ready => "ready",
        Is::Busy => "busy",
        Is::Draining => "draining",
        Is::Stopping => "stopping",
        Is::Gone => "gone",
    }
}

fn ended_by(why: Ended) -> Option<EndedBy> {
    match why {
        Ended::WorkerGone => Some(EndedBy::WorkerGone),
        Ended::LeaseEnded => Some(EndedBy::LeaseEnded),
        Ended::DrainTimedOut => Some(EndedBy::DrainTimedOut),
        Ended::RequestTimedOut => Some(EndedBy::RequestTimedOut),
        Ended::Restarted => Some(EndedBy::Restarted),
        Ended::Operator => Some(EndedBy::Operator),
        Ended::PoolEnding => Some(EndedBy::PoolEnding),
        _ => None,
    }
}
