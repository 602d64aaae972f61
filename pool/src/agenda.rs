//! Things with a time each, in order of time.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Each key has at most one time.
#[derive(Debug)]
pub(crate) struct Agenda<K> {
    times: BTreeMap<K, Time>,
    order: BTreeSet<(Time, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Agenda<K> {
    pub(crate) fn set(&mut self, key: K, at: Time) {
        match self.times.insert(key, at) {
            Some(before) if before == at => return,
            Some(before) => _ = self.order.remove(&(before, key)),
            None => {}
        }
        self.order.insert((at, key));
    }

    /// Never moves a time back: who comes early looks again. It keeps a session's begin and end off the
    /// timers of its app.
    pub(crate) fn set_no_later(&mut self, key: K, at: Time) {
        if self.time(key).is_none_or(|time| time > at) {
            self.set(key, at);
        }
    }

    pub(crate) fn clear(&mut self, key: K) {
        if let Some(before) = self.times.remove(&key) {
            self.order.remove(&(before, key));
        }
    }

    pub(crate) fn time(&self, key: K) -> Option<Time> {
        self.times.get(&key).copied()
    }

    /// Takes the first that is due at `now`.
    pub(crate) fn pop(&mut self, now: Time) -> Option<K> {
        let (_, key) = self.iter().next().filter(|&(at, _)| at <= now)?;
        self.clear(key);
        Some(key)
    }

    /// In order of time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Time, K)> {
        self.order.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }
}
