//! The connections between clients and workers, and what each is used for. Each takes one slot.

use crate::ids::{AppId, ClientId, ConnectionId, SessionId, WorkerId};
use crate::queue::Waiter;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) app: AppId,
    pub(crate) worker: WorkerId,
    pub(crate) client: ClientId,
    /// The session on it, or the last one while it is parked.
    pub(crate) session: SessionId,
    pub(crate) state: Use,
    /// When the session began, or the parking.
    pub(crate) since: Time,
    /// Whom it was made for, in case it can't be; `None` once it has carried a session.
    pub(crate) made_for: Option<Waiter>,
    /// How long its session's client waited for it.
    pub(crate) waited: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A client's session.
    Open,
    /// A lease: no session, the client keeps connection and slot.
    Parked,
    /// The client abandoned the session and the worker may still compute.
    Lingering,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: BTreeMap<SessionId, ConnectionId>,
    clients: BTreeSet<(ClientId, ConnectionId)>,
    /// Leases by owner, the longest parked first.
    leases: BTreeSet<(AppId, ClientId, Time, ConnectionId)>,
    /// Leases by age, the longest parked first.
    parked: BTreeSet<(AppId, Time, ConnectionId)>,
    last_session: u64,
    last_connection: u64,
}

impl Book {
    /// A new connection with a new session on it.
    pub(crate) fn open(&mut self, waiter: Waiter, worker: WorkerId, now: Time) -> (SessionId, ConnectionId) {
        let session = self.next_session();
        (session, self.connect(waiter, worker, session, now))
    }

    /// A new connection for a session that lost its own.
    pub(crate) fn connect(
        &mut self,
        waiter: Waiter,
        worker: WorkerId,
        session: SessionId,
        began: Time,
    ) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let client = waiter.request.client;
        let made_for = Some(waiter);
        let app = waiter.app;
        let (state, waited) = (Use::Open, Duration::ZERO);
        let connection = Connection { app, worker, client, session, state, since: began, made_for, waited };
        self.connections.insert(id, connection);
        self.sessions.insert(session, id);
        self.clients.insert((client, id));
        id
    }

    /// The next session on a parked connection.
    pub(crate) fn resume(&mut self, id: ConnectionId, now: Time) -> SessionId {
        let session = self.next_session();
        self.unpark(id);
        let connection = self.connections.get_mut(&id).expect("a lease has a connection");
        self.sessions.remove(&connection.session);
        self.sessions.insert(session, id);
        (connection.session, connection.state, connection.since) = (session, Use::Open, now);
        session
    }

    pub(crate) fn note_wait(&mut self, id: ConnectionId, waited: Duration) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.waited = waited;
        }
    }

    pub(crate) fn park(&mut self, id: ConnectionId, now: Time) {
        let connection = self.connections.get_mut(&id).expect("what is parked is connected");
        (connection.state, connection.since, connection.made_for) = (Use::Parked, now, None);
        self.leases.insert((connection.app, connection.client, now, id));
        self.parked.insert((connection.app, now, id));
    }

    pub(crate) fn linger(&mut self, id: ConnectionId) {
        self.connections.get_mut(&id).expect("what lingers is connected").state = Use::Lingering;
    }

    pub(crate) fn end(&mut self, id: ConnectionId) -> Option<Connection> {
        self.unpark(id);
        let connection = self.connections.remove(&id)?;
        self.sessions.remove(&connection.session);
        self.clients.remove(&(connection.client, id));
        Some(connection)
    }

    fn unpark(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id).filter(|connection| connection.state == Use::Parked) {
            self.leases.remove(&(connection.app, connection.client, connection.since, id));
            self.parked.remove(&(connection.app, connection.since, id));
        }
    }

    fn next_session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// The connection that carries a session, or carried it last.
    pub(crate) fn of_session(&self, session: SessionId) -> Option<(ConnectionId, &Connection)> {
        let &id = self.sessions.get(&session)?;
        Some((id, &self.connections[&id]))
    }

    pub(crate) fn of_client(&self, client: ClientId) -> Vec<ConnectionId> {
        let all = (client, ConnectionId(0))..=(client, ConnectionId(u64::MAX));
        self.clients.range(all).map(|&(_, id)| id).collect()
    }

    /// The client's own lease that was parked last: it is the likeliest to be alive.
    pub(crate) fn own_lease(&self, app: AppId, client: ClientId) -> Option<ConnectionId> {
        let all =
            (app, client, Time::ZERO, ConnectionId(0))..(app, ClientId(client.0 + 1), Time::ZERO, ConnectionId(0));
        self.leases.range(all).next_back().map(|&(.., id)| id)
    }

    /// The leases at an app's workers, longest parked first.
    pub(crate) fn leases(&self, app: AppId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let all = (app, Time::ZERO, ConnectionId(0))..(AppId(app.0 + 1), Time::ZERO, ConnectionId(0));
        self.parked.range(all).map(|&(.., id)| (id, &self.connections[&id]))
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(&id, connection)| (id, connection))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let parked = self.connections.values().filter(|connection| connection.state == Use::Parked).count();
        let sizes = [self.sessions.len(), self.clients.len()];
        if sizes != [self.connections.len(); 2] || [self.leases.len(), self.parked.len()] != [parked; 2] {
            return Err("the book's lists differ in length".into());
        }
        for (&id, connection) in &self.connections {
            let listed = self.sessions.get(&connection.session) == Some(&id)
                && self.clients.contains(&(connection.client, id))
                && (connection.state != Use::Parked
                    || self.leases.contains(&(connection.app, connection.client, connection.since, id))
                        && self.parked.contains(&(connection.app, connection.since, id)));
            if !listed {
                return Err(format!("{id} is not listed as it is"));
            }
        }
        Ok(())
    }
}
