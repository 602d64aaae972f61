//! What becomes of sessions and leases: they are closed, parked, abandoned, made again.

use crate::book::Use;
use crate::counters::SessionEnd;
use crate::effect::{Effect, EndReason, Failure, Invalid, Path, Refusal, StopReason};
use crate::event::{Close, ConnectFailure};
use crate::ids::{AppId, ClientId, ConnectionId, Request, SessionId, WorkerId};
use crate::pool::Pool;
use crate::settings::{Concurrency, LEASES_WITHOUT_LIMIT, Parking};
use crate::time::Time;
use crate::timers::Timer;
use std::time::Duration;

/// How long a worker whose backlog was full is left alone; doubles each time …
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
/// … up to this, until a session at it ends.
const LAST_BACK_OFF: Duration = Duration::from_millis(200);

impl Pool {
    pub(crate) fn closed(&mut self, client: ClientId, session: SessionId, how: Close, now: Time) {
        let Some((id, connection)) = self.book.of_session(session) else { return };
        if connection.client != client {
            return;
        }
        let (state, since) = (connection.state, connection.since);
        let (worker, app, was_open) = (connection.worker, connection.app, state == Use::Open);
        if was_open && matches!(how, Close::Kept | Close::Finished) {
            self.count_end(app, since, SessionEnd::Done, now);
        }
        match (state, how) {
            (Use::Open, Close::Kept) => self.park(id, worker, now),
            (Use::Open, Close::Abandoned) => self.linger(id, now),
            (Use::Open | Use::Parked, Close::Finished) | (Use::Parked, Close::Abandoned) => self.release(id, now),
            (Use::Parked, Close::Kept) | (Use::Lingering, _) => return,
        }
        // A parked connection that is dropped proves nothing: its session ended when it was parked.
        if how != Close::Abandoned && was_open {
            self.prove(app);
        }
        if how != Close::Abandoned && self.roster.get(worker).is_some_and(|worker| worker.back_off.is_some()) {
            // A session that ended in peace says that the worker takes connections off its backlog again.
            self.roster.update(worker, |worker| worker.back_off = None);
        }
        self.stop_if_drained(worker, now);
    }

    /// Lets the client keep connection and slot, if the worker goes on and its kind of connection lasts.
    fn park(&mut self, id: ConnectionId, worker: WorkerId, now: Time) {
        let Some(at) = self.roster.get(worker) else { return };
        let room = at.concurrency != Concurrency::Unlimited || at.leases < LEASES_WITHOUT_LIMIT;
        match at.parking {
            Parking::Never => return self.release(id, now),
            Parking::For(_) | Parking::Unlimited if !at.is_serving() || at.is_superseded() || !room => {
                return self.revoke(id, EndReason::LeaseEnded, now);
            }
            Parking::For(time) => self.timers.set(Timer::Connection(id), now + time),
            Parking::Unlimited => self.timers.clear(Timer::Connection(id)),
        }
        let app = at.app;
        self.book.park(id, now);
        self.roster.update(worker, |worker| {
            worker.sessions -= 1;
            worker.leases += 1;
            worker.used = now;
        });
        self.touch(app);
    }

    /// The session is over for its client; the slot stays taken while the worker computes for nobody.
    fn linger(&mut self, id: ConnectionId, now: Time) {
        let Some(connection) = self.book.get(id) else { return };
        let time = self.apps.get(&connection.app).map_or(Duration::ZERO, |app| app.settings.linger);
        let (app, since) = (connection.app, connection.since);
        self.count_end(app, since, SessionEnd::Abandoned, now);
        self.book.linger(id);
        self.timers.set(Timer::Connection(id), now + time);
        self.effect(Effect::Linger { connection: id });
    }

    /// An open session is over.
    pub(crate) fn count_end(&mut self, app: AppId, since: Time, how: SessionEnd, now: Time) {
        if let Some(app) = self.apps.get_mut(&app) {
            *app.counters.sessions_ended.entry(how).or_default() += 1;
            app.counters.session.observe(now.since(since));
        }
    }

    pub(crate) fn lingered(&mut self, id: ConnectionId, now: Time) {
        let Some(connection) = self.book.get(id).filter(|connection| connection.state == Use::Lingering) else {
            return;
        };
        let worker = connection.worker;
        self.release(id, now);
        self.stop_if_drained(worker, now);
    }

    /// Parked long enough, or lingered long enough.
    pub(crate) fn connection_due(&mut self, id: ConnectionId, now: Time) {
        let Some(connection) = self.book.get(id) else { return };
        let worker = connection.worker;
        match connection.state {
            Use::Parked => self.revoke(id, EndReason::LeaseEnded, now),
            Use::Lingering => {
                self.note_open_sessions(worker);
                self.revoke(id, EndReason::LingerTimedOut, now);
                self.leave(worker, StopReason::LingerTimedOut, now);
                self.stop_if_drained(worker, now);
            }
            Use::Open => {
                self.note_open_sessions(worker);
                self.revoke(id, EndReason::RequestTimedOut, now);
                self.leave(worker, StopReason::RequestTimedOut, now);
                self.stop_if_drained(worker, now);
            }
        }
    }

    pub(crate) fn client_gone(&mut self, client: ClientId, now: Time) {
        let waiting: Vec<Request> = self.queue.of_client(client).collect();
        for request in waiting {
            self.cancelled(request);
        }
        for id in self.book.of_client(client) {
            match self.book.get(id).map(|connection| connection.state) {
                Some(Use::Open) => self.linger(id, now),
                Some(Use::Parked) => self.release(id, now),
                Some(Use::Lingering) | None => {}
            }
        }
    }

    /// The parked connection of a session that was just granted is dead: the session gets a fresh one.
    pub(crate) fn reconnected(&mut self, request: Request, session: SessionId, now: Time) {
        let found = self.book.of_session(session).map(|(id, connection)| (id, connection.clone()));
        let Some((id, before)) = found.filter(|(_, connection)| connection.state == Use::Open) else {
            return self.refuse(None, request, Refusal::Invalid(Invalid::Unknown));
        };
        if before.client != request.client {
            return self.refuse(None, request, Refusal::Invalid(Invalid::NotYours));
        }
        let worker = before.worker;
        self.book.end(id);
        self.effect(Effect::Release { connection: id });
        let waiter = self.queue.arrive(request, before.app, now);
        // It is the same session: who reconnects gets no more time.
        let connection = self.book.connect(waiter, worker, session, before.since);
        self.book.note_wait(connection, before.waited);
        self.roster.update(worker, |worker| {
            worker.connections.remove(&id);
            worker.connections.insert(connection);
        });
        self.timers.clear(Timer::Connection(id));
        self.limit_session(connection, before.app, before.since);
        self.effect(Effect::Grant { request, session, worker, connection, path: Path::Fresh });
    }

    /// The connection of a grant never came to be: its question is open again, at its place in the queue.
    pub(crate) fn connect_failed(&mut self, session: SessionId, why: ConnectFailure, now: Time) {
        let Some((id, connection)) = self.book.of_session(session) else { return };
        let (Use::Open, Some(waiter), worker) = (connection.state, connection.made_for, connection.worker) else {
            return;
        };
        let waited = connection.waited;
        self.disconnect(id, now);
        self.roster.update(worker, |worker| worker.served -= 1);
        if let Some(app) = self.apps.get_mut(&waiter.app) {
            app.counters.sessions -= 1;
            app.counters.wait.take_back(waited);
        }
        match why {
            ConnectFailure::Refused => {
                self.put_back(waiter, now);
                self.kill(worker, StopReason::ConnectRefused, now);
                self.count_failure(waiter.app, Failure::Refused, now);
            }
            ConnectFailure::BacklogFull => {
                self.put_back(waiter, now);
                self.back_off(worker, now);
            }
            ConnectFailure::Exhausted => self.refuse(Some(waiter.app), waiter.request, Refusal::Overloaded),
        }
        self.stop_if_drained(worker, now);
    }

    fn back_off(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving()) else { return };
        let time = worker.back_off.map_or(FIRST_BACK_OFF, |last| (last * 2).min(LAST_BACK_OFF));
        self.timers.set(Timer::Worker(id), now + time);
        self.roster.update(id, |worker| (worker.back_off, worker.backing_off) = (Some(time), true));
    }
}
