//! Messages to one receiver, in order: at once as long as it keeps up, from a bounded queue otherwise.

use hatchery_protocol::channel::{SendError, Sender};
use hatchery_protocol::codec::{self, Message};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A receiver that is so many messages behind is given up.
const LIMIT: usize = 1_000;

#[derive(Debug)]
pub(super) struct Outgoing<S>(Rc<Queue<S>>);

#[derive(Debug)]
struct Queue<S> {
    sender: Sender<S>,
    waiting: RefCell<VecDeque<(Vec<u8>, Vec<OwnedFd>)>>,
    /// Sends what waits, while anything does.
    flush: RefCell<Option<AbortHandle>>,
    given_up: Notify,
    is_given_up: Cell<bool>,
}

impl<S: Message + 'static> Outgoing<S> {
    pub(super) fn new(sender: Sender<S>) -> Self {
        Self(Rc::new(Queue {
            sender,
            waiting: RefCell::default(),
            flush: RefCell::default(),
            given_up: Notify::new(),
            is_given_up: Cell::new(false),
        }))
    }

    /// Sends, or queues. An error means that the receiver is gone or has to be given up.
    pub(super) fn send(&self, message: &S, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let packet = codec::encode(message)?;
        let queue = &self.0;
        // While the oldest is on its way, nothing may overtake it.
        if queue.flush.borrow().is_none() {
            match queue.sender.try_send_packet(&packet, descriptors) {
                Err(SendError::Full) => {}
                other => return other,
            }
        }
        if queue.waiting.borrow().len() >= LIMIT {
            return Err(SendError::Full);
        }
        let owned: Result<Vec<OwnedFd>, _> =
            descriptors.iter().map(|descriptor| descriptor.try_clone_to_owned()).collect();
        queue.waiting.borrow_mut().push_back((packet, owned.map_err(SendError::Io)?));
        queue
            .flush
            .borrow_mut()
            .get_or_insert_with(|| tokio::task::spawn_local(flush(Rc::clone(queue))).abort_handle());
        Ok(())
    }
}

impl<S> Outgoing<S> {
    /// Lets whoever waits for [`given_up`](Self::given_up) end the receiver. True the first time.
    pub(super) fn give_up(&self) -> bool {
        self.0.given_up.notify_one();
        !self.0.is_given_up.replace(true)
    }

    pub(super) async fn given_up(&self) {
        self.0.given_up.notified().await;
    }

    /// Lets go of the channel, whatever still waits: only then can its receiver see the end.
    pub(super) fn close(&self) {
        self.0.waiting.borrow_mut().clear();
        if let Some(flush) = self.0.flush.take() {
            flush.abort();
        }
    }
}

impl<S> Clone for Outgoing<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// Sends what waits; ends when nothing does, or the receiver is gone (its reader notices that too).
async fn flush<S: Message>(queue: Rc<Queue<S>>) {
    loop {
        let Some((packet, descriptors)) = queue.waiting.borrow_mut().pop_front() else { break };
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = queue.sender.send_packet(&packet, &borrowed).await;
        if sent.is_err() {
            queue.waiting.borrow_mut().clear();
            break;
        }
    }
    queue.flush.take();
}
