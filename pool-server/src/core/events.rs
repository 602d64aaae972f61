//! What happened: the last of it kept, and all of it passed on to those who listen.

mod logged;
mod news;
#[cfg(test)]
mod tests;

pub(super) use news::{Endings, News};

use hatchery_protocol::events::PoolEvent;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::broadcast;

/// Events that are kept.
const KEPT: usize = 1_000;
/// Events that a listener may be behind before it loses some.
const BEHIND: usize = 1_024;

#[derive(Debug)]
pub(super) struct Events {
    /// The oldest first.
    kept: VecDeque<Rc<PoolEvent>>,
    live: broadcast::Sender<Rc<PoolEvent>>,
    last: u64,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::new(), live: broadcast::Sender::new(BEHIND), last: 0 }
    }

    /// The last so many, the oldest first. With [`Self::subscribe`] before anything else happens, nothing is missed
    /// and nothing told twice.
    pub(super) fn recent(&self, wanted: usize) -> Vec<PoolEvent> {
        let from = self.kept.len().saturating_sub(wanted);
        self.kept.range(from..).map(|event| PoolEvent::clone(event)).collect()
    }

    /// All from now on. Who reads too slowly loses the oldest, and is told how many.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Rc<PoolEvent>> {
        self.live.subscribe()
    }

    /// Gives it its number.
    pub(super) fn publish(&mut self, event: PoolEvent) -> Rc<PoolEvent> {
        self.last += 1;
        let event = Rc::new(PoolEvent { number: self.last, ..event });
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Rc::clone(&event));
        // Nobody may listen.
        let _ = self.live.send(Rc::clone(&event));
        event
    }
}

#[cfg(test)]
mod kept {
    use super::*;
    use hatchery_protocol::events::EventName;

    fn event(text: &str) -> PoolEvent {
        PoolEvent {
            number: 0,
            at: 0.0,
            event: EventName::WorkerReady,
            level: EventName::WorkerReady.level(),
            app: None,
            root: None,
            tenant: None,
            worker: None,
            pid: None,
            generation: None,
            session: None,
            reason: None,
            text: text.into(),
        }
    }

    #[test]
    fn the_last_events_are_kept_and_no_more() {
        let mut events = Events::new();
        for number in 0..2 * KEPT {
            events.publish(event(&number.to_string()));
        }
        assert_eq!(events.recent(usize::MAX).len(), KEPT);
        let last: Vec<(u64, String)> = events.recent(2).into_iter().map(|event| (event.number, event.text)).collect();
        assert_eq!(last, [(1999, "1998".to_owned()), (2000, "1999".to_owned())]);
        assert!(events.recent(0).is_empty());
    }

    #[tokio::test]
    async fn who_listens_gets_all_from_then_on_and_is_told_what_it_lost() {
        let mut events = Events::new();
        events.publish(event("before"));
        let (mut quick, mut slow) = (events.subscribe(), events.subscribe());
        for number in 0..=BEHIND {
            events.publish(event(&number.to_string()));
            assert_eq!(quick.recv().await.unwrap().text, number.to_string());
        }
        assert_eq!(slow.recv().await, Err(broadcast::error::RecvError::Lagged(1)));
        assert_eq!(slow.recv().await.unwrap().number, 3);
    }
}
