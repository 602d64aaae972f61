//! The waiters: `get`s that no worker can serve yet, a queue for each app, in order of arrival.

use crate::ids::{AppId, ClientId, Request};
use crate::time::Time;
use std::collections::BTreeMap;

/// A place in the order of arrival. A waiter that is put back keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) request: Request,
    pub(crate) app: AppId,
    pub(crate) arrived: Time,
    pub(crate) ticket: Ticket,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Only apps with waiters have an entry.
    waiters: BTreeMap<AppId, BTreeMap<Ticket, Waiter>>,
    places: BTreeMap<Request, (AppId, Ticket)>,
    last_ticket: u64,
}

impl Queue {
    /// A waiter that has just arrived, not yet in the queue.
    pub(crate) fn arrive(&mut self, request: Request, app: AppId, now: Time) -> Waiter {
        self.last_ticket += 1;
        Waiter { request, app, arrived: now, ticket: Ticket(self.last_ticket) }
    }

    /// Lets a waiter wait at its place in the order of arrival.
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        self.places.insert(waiter.request, (waiter.app, waiter.ticket));
        self.waiters.entry(waiter.app).or_default().insert(waiter.ticket, waiter);
    }

    pub(crate) fn remove(&mut self, request: Request) -> Option<Waiter> {
        let (app, ticket) = self.places.remove(&request)?;
        let of_app = self.waiters.get_mut(&app)?;
        let waiter = of_app.remove(&ticket);
        if of_app.is_empty() {
            self.waiters.remove(&app);
        }
        waiter
    }

    pub(crate) fn contains(&self, request: Request) -> bool {
        self.places.contains_key(&request)
    }

    pub(crate) fn first(&self, app: AppId) -> Option<&Waiter> {
        self.waiters.get(&app)?.first_key_value().map(|(_, waiter)| waiter)
    }

    pub(crate) fn get(&self, app: AppId, ticket: Ticket) -> Option<&Waiter> {
        self.waiters.get(&app)?.get(&ticket)
    }

    /// The waiters of an app, oldest first.
    pub(crate) fn of_app(&self, app: AppId) -> impl Iterator<Item = &Waiter> {
        self.waiters.get(&app).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn of_client(&self, client: ClientId) -> impl Iterator<Item = Request> {
        let all = Request { client, number: 0 }..=Request { client, number: u64::MAX };
        self.places.range(all).map(|(&request, _)| request)
    }

    pub(crate) fn len(&self, app: AppId) -> u32 {
        self.waiters.get(&app).map_or(0, |of_app| of_app.len() as u32)
    }

    /// Waiters of all apps together.
    pub(crate) fn total(&self) -> u32 {
        self.places.len() as u32
    }

    /// The apps somebody waits for.
    pub(crate) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.waiters.keys().copied()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let mut counted = 0;
        for (&app, of_app) in &self.waiters {
            counted += of_app.len();
            let in_order = of_app.values().map(|waiter| waiter.arrived).is_sorted();
            if of_app.is_empty() || !in_order {
                return Err(format!("the queue of {app} is empty or out of order"));
            }
            for (&ticket, waiter) in of_app {
                if self.places.get(&waiter.request) != Some(&(app, ticket)) {
                    return Err(format!("waiter {} is not where it is said to be", waiter.request));
                }
            }
        }
        if counted == self.places.len() { Ok(()) } else { Err("a waiter is known but in no queue".into()) }
    }
}
