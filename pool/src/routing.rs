//! Which slot a waiter gets, and what a grant changes.

use crate::book::{Connection, Use};
use crate::counters::SessionEnd;
use crate::effect::{Effect, EndReason, Notice, Path};
use crate::ids::{AppId, ClientId, ConnectionId, WorkerId};
use crate::pool::Pool;
use crate::queue::Waiter;
use crate::time::Time;
use crate::timers::Timer;

/// A slot for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The client's own lease.
    Own(ConnectionId),
    Free(WorkerId),
    /// Another client's lease, which has to go first.
    Leased(ConnectionId),
}

/// The slot the next session of `client` gets: its own lease, else a free slot at the worker with the
/// fewest sessions, else the slot whose lease was parked longest.
pub(crate) fn choose(pool: &Pool, app: AppId, client: ClientId) -> Option<Slot> {
    if let Some(own) = pool.book.own_lease(app, client) {
        return Some(Slot::Own(own));
    }
    if let Some(worker) = pool.roster.crew(app).freest() {
        return Some(Slot::Free(worker));
    }
    let reachable = |worker| pool.roster.get(worker).is_some_and(|worker| worker.takes_connections());
    let mut leases = pool.book.leases(app);
    leases.find(|(_, connection)| reachable(connection.worker)).map(|(id, _)| Slot::Leased(id))
}

impl Pool {
    pub(crate) fn grant(&mut self, waiter: Waiter, slot: Slot, now: Time) {
        let request = waiter.request;
        let (session, worker, connection, path) = match slot {
            Slot::Own(connection) => {
                self.timers.clear(Timer::Connection(connection));
                let session = self.book.resume(connection, now);
                let worker = self.book.get(connection).expect("it was just resumed").worker;
                self.roster.update(worker, |worker| worker.leases -= 1);
                (session, worker, connection, Path::Parked)
            }
            Slot::Free(worker) => {
                let (session, connection) = self.book.open(waiter, worker, now);
                self.roster.update(worker, |worker| {
                    worker.connections.insert(connection);
                });
                (session, worker, connection, Path::Fresh)
            }
            Slot::Leased(lease) => {
                let worker = self.book.get(lease).expect("it was just chosen").worker;
                self.revoke(lease, EndReason::LeaseEnded, now);
                return self.grant(waiter, Slot::Free(worker), now);
            }
        };
        self.roster.update(worker, |worker| {
            worker.sessions += 1;
            worker.served += 1;
            worker.used = now;
        });
        let waited = now.since(waiter.arrived);
        self.book.note_wait(connection, waited);
        if let Some(app) = self.apps.get_mut(&waiter.app) {
            app.counters.sessions += 1;
            app.counters.wait.observe(waited);
        }
        self.limit_session(connection, waiter.app, now);
        self.effect(Effect::Grant { request, session, worker, connection, path });
        self.count_request(worker, waiter.app);
    }

    /// A session has its time, from its beginning.
    pub(crate) fn limit_session(&mut self, connection: ConnectionId, app: AppId, began: Time) {
        if let Some(time) = self.apps.get(&app).and_then(|app| app.settings.max_request_time) {
            self.timers.set(Timer::Connection(connection), began + time);
        }
    }

    /// The pool ends a connection.
    pub(crate) fn revoke(&mut self, connection: ConnectionId, why: EndReason, now: Time) {
        if let Some(ended) = self.disconnect(connection, now) {
            let (worker, session) = (ended.worker, ended.session);
            self.effect(Effect::Revoke { connection, client: ended.client, session, why });
            if let Some(how) = SessionEnd::of(why).filter(|_| ended.state == Use::Open) {
                self.count_end(ended.app, ended.since, how, now);
                self.notice(Notice::SessionEnded { app: ended.app, worker, session, why });
            }
        }
    }

    /// The client is done with a connection, or nobody is left to tell.
    pub(crate) fn release(&mut self, connection: ConnectionId, now: Time) {
        if self.disconnect(connection, now).is_some() {
            self.effect(Effect::Release { connection });
        }
    }

    /// Takes a connection off the books; its slot is free.
    pub(crate) fn disconnect(&mut self, id: ConnectionId, now: Time) -> Option<Connection> {
        let connection = self.book.end(id)?;
        self.timers.clear(Timer::Connection(id));
        self.roster.update(connection.worker, |worker| {
            worker.connections.remove(&id);
            match connection.state {
                Use::Parked => worker.leases -= 1,
                Use::Open | Use::Lingering => {
                    worker.sessions -= 1;
                    worker.used = now;
                }
            }
        });
        self.touch(connection.app);
        Some(connection)
    }
}
