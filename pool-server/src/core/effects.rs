//! Carrying out what the pool decides. What fails at once comes back as further events.

mod notices;

use super::connections::Connection;
use super::events::News;
use super::shell::{OPERATOR, Shell, State};
use super::translate;
use super::words;
use super::workers::{Order, Worker};
use hatchery_pool::{
    Answer, AppId, ClientId, ConnectFailure, ConnectionId, Effect, Event, Generation, Notice, Path, Refusal, Request,
    SessionId, StopReason, SwapStep, Time, WorkerId,
};
use hatchery_protocol::channel::SendError;
use hatchery_protocol::client::{self, LeaseId, RequestId, ToClient, Transport};
use hatchery_protocol::events::EventName;
use hatchery_protocol::link::{AppNumber, LaunchPlan, ToKeeper, WorkerNumber};
use hatchery_protocol::memfd;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

impl State {
    pub(super) fn carry_out(&mut self, shell: &Shell, now: Time, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Inspect { app, generation } => self.inspect(app, generation),
            Effect::Spawn { app, worker, generation, from } => {
                self.watch(app);
                return self.spawn(shell, app, worker, generation, from);
            }
            Effect::Grant { request, session, worker, connection, path } => {
                return self.grant(request, session, worker, connection, path);
            }
            Effect::Refuse { request, refusal } => self.refuse(now, request, &refusal),
            Effect::Answer { request, answer } => self.answer(now, request, answer),
            Effect::Revoke { connection, client, session, why } => {
                if let Some(open) = self.connections.get(&connection) {
                    self.workers.remember(open.worker(), session, open.label());
                }
                // Before the connection ends, so that who sees its end can know why.
                if let Some(why) = translate::ended(why) {
                    let (session, lease) = (client::SessionId(session.0), LeaseId(connection.0));
                    self.send(client, &ToClient::Ended { session, lease, why }, None);
                }
                self.end_connection(connection);
            }
            Effect::Release { connection } => self.end_connection(connection),
            Effect::Linger { connection } => {
                if let Some(abandoned) = self.connections.get_mut(&connection) {
                    abandoned.linger(shell, connection);
                }
            }
            Effect::Drain { worker, why } => {
                let text = format!("draining: {}", translate::stop_reason(why));
                self.happened(News::of(EventName::WorkerDraining, text).worker(worker).why(words::stop_reason(why)));
            }
            Effect::Stop { worker, why } => self.stop(worker, why),
            Effect::Kill { worker, why } => self.kill(worker, why),
            Effect::Forget { app, root } => {
                let number = AppNumber(self.number(app.0));
                self.tell_keeper(&ToKeeper::Forget { app: number, generation: None }, &[]);
                self.watching.leave(app);
                // Its root is not known to the pool any more, but here.
                self.happened(News::of(EventName::AppForgotten, "forgotten").app(app));
                self.forget(app, &root);
            }
            Effect::ForgetPlan { app, generation } => self.forget_plan(app, generation),
            Effect::Dump { worker } => self.dump(worker),
            Effect::Ping { worker } => self.ping(shell, worker),
            Effect::EndPing { worker } => self.end_ping(worker),
            Effect::Sample { worker } => return self.sample(worker),
            Effect::Examine { worker } => self.examine(worker),
            Effect::Record(passing) => self.record(shell, &passing),
            Effect::Notice(notice) => {
                if let Notice::Registered { app } | Notice::Added { app } = notice {
                    self.known(app);
                }
                self.watch_notice(&notice);
                self.note_failure(&notice);
                self.note(now, &notice);
            }
            Effect::Ended => shell.end(),
            Effect::Swap { app, step } => self.swap(app, step),
            Effect::Preload { app, preloader, generation } => {
                self.watch(app);
                return self.preload(shell, app, preloader, generation);
            }
            Effect::DropPreloader { preloader, why } => self.drop_preloader(preloader, why),
            Effect::KillPreloader { preloader, why } => self.kill_preloader(preloader, why),
        }
        None
    }

    // ── starting ─────────────────────────────────────────────────────────────────────────────────

    fn inspect(&mut self, app: AppId, generation: Generation) {
        let Some(root) = self.pool.root(app).map(<[u8]>::to_vec) else { return };
        let options = Box::new(self.options(&root));
        self.known(app);
        self.watch(app);
        let app = AppNumber(self.number(app.0));
        self.tell_keeper(&ToKeeper::Inspect { app, generation: generation.0, root, options }, &[]);
    }

    pub(super) fn keep_plan(&mut self, app: AppNumber, generation: u64, plan: LaunchPlan) -> Option<Event> {
        let id = AppId(app.0 & u64::from(u32::MAX));
        let generation = Generation(generation);
        self.watch_inspected(id, plan.seen.clone());
        let app = self.apps.get_mut(&id)?;
        let facts = translate::plan(&plan);
        app.plans.insert(generation, Rc::new(plan));
        Some(Event::Inspected { app: id, generation, plan: facts })
    }

    fn forget_plan(&mut self, app: AppId, generation: Generation) {
        if let Some(app) = self.apps.get_mut(&app) {
            app.plans.remove(&generation);
        }
        let app = AppNumber(self.number(app.0));
        self.tell_keeper(&ToKeeper::Forget { app, generation: Some(generation.0) }, &[]);
    }

    fn swap(&mut self, app: AppId, step: SwapStep) {
        let Some(root) = self.pool.root(app).map(<[u8]>::to_vec) else { return };
        self.watch_swap(app, step);
        let app = AppNumber(self.number(app.0));
        self.tell_keeper(&ToKeeper::Swap { app, root, step: translate::swap_step(step) }, &[]);
    }

    fn stop(&mut self, worker: WorkerId, why: StopReason) {
        let text = format!("stopping: {}", translate::stop_reason(why));
        self.happened(News::of(EventName::WorkerStopping, text).worker(worker).why(words::stop_reason(why)));
        let number = WorkerNumber(self.number(worker.0));
        let order = Order { kill: false, start_timed_out: why == StopReason::StartTimedOut };
        if self.workers.order(worker, order) {
            self.tell_keeper(&ToKeeper::Terminate { worker: number }, &[]);
        }
    }

    fn kill(&mut self, worker: WorkerId, why: StopReason) {
        let told = self.workers.get(worker).is_some_and(Worker::is_asked_to_leave);
        let text = translate::killing(why, told);
        self.happened(News::of(EventName::WorkerKilled, text).worker(worker).why(words::stop_reason(why)));
        let number = WorkerNumber(self.number(worker.0));
        let order = Order { kill: true, start_timed_out: why == StopReason::StartTimedOut };
        if self.workers.order(worker, order) {
            self.tell_keeper(&ToKeeper::Kill { worker: number }, &[]);
        }
    }

    pub(super) fn tell_keeper(&mut self, message: &ToKeeper, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.keeper.send(message, descriptors) {
            // Its reader sees the end of the link; nothing else can be done here.
            tracing::error!("the keeper can't be told: {error}");
        }
    }

    // ── answering ────────────────────────────────────────────────────────────────────────────────

    fn grant(
        &mut self,
        request: Request,
        session: SessionId,
        worker: WorkerId,
        connection: ConnectionId,
        path: Path,
    ) -> Option<Event> {
        let failed = |why| Some(Event::ConnectFailed { session, why });
        let Some(process) = self.workers.get(worker) else { return failed(ConnectFailure::Refused) };
        let Some(address) = &process.address else { return failed(ConnectFailure::Refused) };
        let transport = match address {
            super::address::Address::Unix(_) => Transport::Unix,
            super::address::Address::Tcp(_) => Transport::Tcp,
        };
        let message = ToClient::Session {
            request: RequestId(request.number),
            session: client::SessionId(session.0),
            lease: LeaseId(connection.0),
            fresh: path == Path::Fresh,
            pid: process.pid,
            protocol: process.plan.protocol,
            transport,
            documents: process.plan.documents.clone().map(Box::new),
        };
        let label = self.labels.remove(&request).unwrap_or_default();
        if path == Path::Fresh {
            match address.connect() {
                Ok(socket) => {
                    self.connections.insert(connection, Connection::new(socket, worker, request.client, session, label))
                }
                Err(why) => return failed(why),
            };
        } else if let Some(parked) = self.connections.get_mut(&connection) {
            parked.reuse(session, label);
        }
        let socket = self.connections.get(&connection).map(Connection::socket);
        self.send(request.client, &message, socket.filter(|_| path == Path::Fresh));
        None
    }

    /// Answers whoever asked something that is not a `get`: a client, or the operator.
    fn answer(&mut self, now: Time, request: Request, answer: Answer) {
        if matches!(answer, Answer::Refused(_)) {
            self.was_not_added(request);
        }
        if request.client == OPERATOR {
            return self.answer_operator(now, request.number, answer);
        }
        match answer {
            Answer::Done => self.send(request.client, &ToClient::Done { request: RequestId(request.number) }, None),
            Answer::Refused(refusal) => self.refuse(now, request, &refusal),
        }
    }

    fn refuse(&mut self, now: Time, request: Request, refusal: &Refusal) {
        self.labels.remove(&request);
        let wire = translate::refusal(refusal, now);
        let message = ToClient::Refused { request: RequestId(request.number), refusal: wire };
        let Refusal::SpawnFailed(report) = refusal else { return self.send(request.client, &message, None) };
        let report = self.report(*report);
        let payload = report.as_deref().map(memfd::write);
        match payload {
            Some(Ok(payload)) => self.send(request.client, &message, Some(payload.as_fd())),
            // Without a descriptor for the report the refusal itself must still arrive.
            _ => self.refuse(now, request, &Refusal::Overloaded),
        }
    }

    /// To a client that does not keep up nothing more is sent: its task is ended, as if it had gone.
    pub(super) fn send(&self, client: ClientId, message: &ToClient, descriptor: Option<BorrowedFd<'_>>) {
        let Some(outgoing) = self.clients.get(&client) else { return };
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        match outgoing.send(message, &descriptors) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => {
                if outgoing.give_up() {
                    tracing::warn!(client = client.0, "given up: {error}");
                }
            }
        }
    }

    fn end_connection(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connections.remove(&connection) {
            connection.end();
        }
    }
}
