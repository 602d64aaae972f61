//! One channel to the pool and what goes on there: what both shells share. The shells differ in how they wait.

use crate::door::DoorLink;
use crate::machine::{Event, Gone, Loss, Machine, Name, Reply};
use crate::owner::{Local, Owner};
use crate::stream::Stream;
use hatchery_protocol::client::{Ended, How, RequestId, ToPool};
use hatchery_protocol::codec::MAX_PACKET;
use hatchery_protocol::packet::{self, Received};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Resets of a connection in a row after which it is believed: the kernel reports one before it hands out what
/// was received earlier.
const RESETS: u32 = 2;

/// A parked connection.
#[derive(Debug)]
pub(crate) enum Parked {
    /// Registered with a runtime.
    Stream(Local<Stream>),
    Fd(OwnedFd),
}

impl Parked {
    /// Nothing came on it, not even its end. Anything else means that it is dead.
    pub(crate) fn is_silent(&self) -> bool {
        let fd = match self {
            Self::Stream(stream) => stream.as_fd(),
            Self::Fd(fd) => fd.as_fd(),
        };
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(fd, &mut byte, flags), Err(Errno::AGAIN))
    }
}

#[derive(Debug)]
pub(crate) struct Line<S> {
    pub(crate) owner: Owner,
    pub(crate) door: DoorLink,
    books: Mutex<Books<S>>,
}

/// What is known, and who waits for what.
#[derive(Debug)]
pub(crate) struct Books<S> {
    pub(crate) machine: Machine<Parked>,
    /// `None`: the channel is lost.
    pub(crate) socket: Option<S>,
    /// For one packet. `None` while a thread has it, waiting for one.
    pub(crate) buffer: Option<Vec<u8>>,
    pub(crate) waiters: BTreeMap<RequestId, Waker>,
    /// Who sends the outbox when the socket has room again, if that is not whoever filled it.
    pub(crate) sender: Option<Waker>,
    woken: Vec<Waker>,
    /// Dropped when the books are closed again.
    lost: Option<S>,
}

/// Where a question stands.
#[derive(Debug)]
pub(crate) enum Turn {
    Answered(Reply<Parked>, ToPool),
    /// The channel is gone; somebody must make a new one.
    Lost,
    Waits,
}

impl<S: AsFd> Line<S> {
    /// Without a channel; [`Books::plug_in`] is next.
    pub(crate) fn new(door: DoorLink) -> Self {
        let books = Books {
            machine: Machine::new(),
            socket: None,
            buffer: Some(vec![0; MAX_PACKET]),
            waiters: BTreeMap::new(),
            sender: None,
            woken: Vec::new(),
            lost: None,
        };
        Self { owner: Owner::this_process(), door, books: Mutex::new(books) }
    }

    /// Looks into the books. Only in the process that made them: in a fork, another thread may have held them
    /// open for ever.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Books<S>) -> R) -> R {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let result = look(&mut books);
        let woken = mem::take(&mut books.woken);
        // Dropping these may run code of a runtime, and that may come back here.
        let dropped = (books.lost.take(), books.machine.take_discarded());
        drop(books);
        drop(dropped);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// Ends a session; true if the packet is on its way. Does nothing in a forked child.
    pub(crate) fn close(&self, name: Name, how: How, connection: Option<Parked>) -> bool {
        self.owner.is_here()
            && self.with(|books| {
                books.machine.close(name, how, connection);
                books.flush()
            })
    }

    pub(crate) fn label(&self, name: Name, text: &str) {
        if self.owner.is_here() {
            self.with(|books| {
                books.machine.label(name, text);
                books.flush()
            });
        }
    }

    pub(crate) fn ended(&self, name: Name) -> Option<Ended> {
        if !self.owner.is_here() {
            return None;
        }
        self.with(|books| {
            books.drain();
            books.machine.ended(name)
        })
    }

    /// Gives up a question.
    pub(crate) fn forget(&self, request: RequestId) {
        if self.owner.is_here() {
            self.with(|books| {
                books.waiters.remove(&request);
                books.machine.forget(request);
                books.flush();
            });
        }
    }
}

impl<S: AsFd> Books<S> {
    /// Where the question stands; who asks is woken when it moves.
    pub(crate) fn turn(&mut self, request: RequestId, waker: &Waker) -> Turn {
        if let Some((reply, message)) = self.machine.take(request) {
            self.waiters.remove(&request);
            return Turn::Answered(reply, message);
        }
        if self.socket.is_none() {
            return Turn::Lost;
        }
        match self.waiters.get_mut(&request) {
            Some(known) => known.clone_from(waker),
            None => {
                self.waiters.insert(request, waker.clone());
            }
        }
        Turn::Waits
    }

    /// Sends what is to be sent, as far as the socket has room; true if that was all.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(socket) = &self.socket {
            let Some(packet) = self.machine.outbox().front() else { return true };
            match packet::send(socket, packet, &[], SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.machine.outbox().pop_front();
                }
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {
                    self.woken.extend(self.sender.take());
                    return false;
                }
                Err(_) => {
                    // Its last words may be here already.
                    self.drain();
                    self.lose(Loss::Closed);
                }
            }
        }
        true
    }

    /// Takes in what is here already.
    pub(crate) fn drain(&mut self) {
        let mut resets = 0;
        while let (Some(socket), Some(buffer)) = (&self.socket, &mut self.buffer) {
            match packet::receive(socket, buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNRESET) if resets < RESETS => resets += 1,
                received => {
                    self.take_in(received);
                }
            }
        }
    }

    /// Takes in what a receive into the buffer brought; whose question that answered.
    pub(crate) fn take_in(&mut self, received: Result<Received, Errno>) -> Option<RequestId> {
        let loss = match received {
            Ok(Received { len: 0, .. }) | Err(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN) => Loss::Closed,
            Err(errno) => Loss::Broken(format!("its channel can't be read: {}", std::io::Error::from(errno))),
            Ok(Received { len, descriptors, truncated }) => {
                let packet = &self.buffer.as_ref().expect("a buffer with the packet")[..len];
                match self.machine.receive(packet, descriptors, truncated) {
                    Ok(Event::Answered(request)) => {
                        self.woken.extend(self.waiters.remove(&request));
                        return Some(request);
                    }
                    Ok(Event::Noted) => return None,
                    Err(loss) => loss,
                }
            }
        };
        self.lose(loss);
        None
    }

    /// The channel is gone. Everybody who waits is woken, to make a new one.
    pub(crate) fn lose(&mut self, loss: Loss) {
        if let Some(socket) = self.socket.take() {
            self.lost = Some(socket);
            self.sender = None;
            self.machine.lost(loss);
            self.wake_all();
        }
    }

    /// A new channel.
    pub(crate) fn plug_in(&mut self, socket: S) {
        self.socket = Some(socket);
        self.machine.resume();
        self.wake_all();
        self.flush();
    }

    /// There is no new channel to be had.
    pub(crate) fn give_up(&mut self, gone: &Gone) {
        self.machine.give_up(gone);
        self.wake_all();
    }

    pub(crate) fn wake_first(&mut self) {
        self.woken.extend(self.waiters.first_key_value().map(|(_, waker)| waker.clone()));
    }

    pub(crate) fn wake_all(&mut self) {
        self.woken.extend(mem::take(&mut self.waiters).into_values());
    }
}
