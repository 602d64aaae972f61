//! What a client knows and decides, without any I/O: packets and descriptors go in, packets come out of the
//! outbox, and the shells carry them. `C` is a parked connection, in whatever form the shell keeps it.
//!
//! What always holds:
//!
//! 1. Every question is answered exactly once, by the pool or by the loss of the channel, unless it is forgotten.
//! 2. A session that nobody waits for any more is closed at once.
//! 3. A connection is parked before the pool is told so, and taken out before it is used.
//! 4. What belongs to an earlier channel is never named on a later one: the pool counts anew.

use crate::answer;
use hatchery_protocol::client::{
    Documents, Ended, How, LeaseId, RequestId, SessionId, SessionProtocol, ToClient, ToPool, Transport,
};
use hatchery_protocol::codec::{self, DecodeError};
use hatchery_protocol::refusal::Refusal;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::os::fd::OwnedFd;

/// Channels that may be lost under one question before it is given up: a question that ends the core each time
/// must not go on for ever.
const LOSSES: u32 = 3;

#[derive(Debug)]
pub(crate) struct Machine<C> {
    /// Counts channels. Ids of sessions and leases hold within one.
    epoch: u64,
    connected: bool,
    /// What the pool said before it ended the channel.
    goodbye: Option<String>,
    next_request: u64,
    asked: BTreeMap<RequestId, Asked<C>>,
    sessions: BTreeMap<SessionId, Option<Ended>>,
    /// Why sessions of earlier channels ended, as far as the pool had said so and their holders have not closed them.
    last_words: BTreeMap<(u64, SessionId), Ended>,
    parked: BTreeMap<LeaseId, C>,
    outbox: VecDeque<Vec<u8>>,
    discarded: Vec<C>,
}

/// A question that somebody waits for.
#[derive(Debug)]
struct Asked<C> {
    /// To ask again on a new channel.
    message: ToPool,
    /// What was asked in truth is a fresh socket for this session.
    reconnecting: Option<SessionId>,
    losses: u32,
    answer: Option<Reply<C>>,
}

/// A session, named across channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    epoch: u64,
    pub(crate) session: SessionId,
    lease: LeaseId,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply<C> {
    Session(Granted<C>),
    /// With the memfd of its report.
    Refused(Refusal, Option<OwnedFd>),
    Done,
    Figure(u64),
    /// The memfd.
    Status(OwnedFd),
    /// A connection of the operator's.
    Operator(OwnedFd),
    /// It came, but this process had no room for its descriptors.
    OutOfDescriptors,
    Gone(Gone),
}

#[derive(Debug)]
pub(crate) struct Granted<C> {
    pub(crate) name: Name,
    pub(crate) pid: i32,
    pub(crate) protocol: SessionProtocol,
    pub(crate) transport: Transport,
    pub(crate) documents: Option<Box<Documents>>,
    pub(crate) connection: Connection<C>,
}

#[derive(Debug)]
pub(crate) enum Connection<C> {
    Fresh(OwnedFd),
    Parked(C),
    /// The pool thinks it is parked here.
    Missing,
}

/// The channel, or the whole pool, is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) why: String,
}

/// How a channel came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The other end is closed: ask again elsewhere.
    Closed,
    /// It can't be trusted or used any more.
    Broken(String),
}

/// What a packet meant for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Answered(RequestId),
    Noted,
}

impl<C> Machine<C> {
    /// Without a channel; [`Machine::resume`] is next.
    pub(crate) fn new() -> Self {
        Self {
            epoch: 0,
            connected: false,
            goodbye: None,
            next_request: 1,
            asked: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_words: BTreeMap::new(),
            parked: BTreeMap::new(),
            outbox: VecDeque::new(),
            discarded: Vec::new(),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The packets to send, in order.
    pub(crate) fn outbox(&mut self) -> &mut VecDeque<Vec<u8>> {
        &mut self.outbox
    }

    /// Connections to be closed: the shell says where, since it can mean more than closing them.
    pub(crate) fn take_discarded(&mut self) -> Vec<C> {
        mem::take(&mut self.discarded)
    }

    // ---- questions ----

    /// Asks. Without a channel, it is asked when there is one.
    pub(crate) fn ask(&mut self, message: impl FnOnce(RequestId) -> ToPool) -> Result<RequestId, DecodeError> {
        let request = self.next_id();
        let message = message(request);
        let packet = codec::encode(&message)?;
        if self.connected {
            self.outbox.push_back(packet);
        }
        self.asked.insert(request, Asked { message, reconnecting: None, losses: 0, answer: None });
        Ok(request)
    }

    /// Asks for a fresh socket for the session, or, if it is over, puts the whole question again.
    pub(crate) fn ask_again(&mut self, mut get: ToPool, name: Name) -> Result<RequestId, DecodeError> {
        let usable = self.connected && self.is_open(name);
        let new = self.next_id();
        if let ToPool::Get { request, .. } = &mut get {
            *request = new;
        }
        let (packet, reconnecting) = if usable {
            (codec::encode(&ToPool::Reconnect { request: new, session: name.session })?, Some(name.session))
        } else {
            self.forget_session(name);
            (codec::encode(&get)?, None)
        };
        if self.connected {
            self.outbox.push_back(packet);
        }
        self.asked.insert(new, Asked { message: get, reconnecting, losses: 0, answer: None });
        Ok(new)
    }

    fn next_id(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        request
    }

    /// The answer, if it is here, with the question.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<(Reply<C>, ToPool)> {
        self.asked.get(&request)?.answer.as_ref()?;
        let asked = self.asked.remove(&request)?;
        Some((asked.answer?, asked.message))
    }

    pub(crate) fn is_answered(&self, request: RequestId) -> bool {
        self.asked.get(&request).is_none_or(|asked| asked.answer.is_some())
    }

    /// Nobody waits for this answer any more. Nothing was sent on a session that came meanwhile.
    pub(crate) fn forget(&mut self, request: RequestId) {
        let Some(asked) = self.asked.remove(&request) else { return };
        match (asked.answer, asked.reconnecting) {
            (Some(Reply::Session(granted)), _) => self.give_back(granted.name, granted.connection),
            (None, Some(session)) if self.sessions.remove(&session) == Some(None) => {
                self.say(&ToPool::Close { session, how: How::Finished });
            }
            (None, None) if matches!(asked.message, ToPool::Get { .. }) => self.say(&ToPool::Cancel { request }),
            _ => {}
        }
    }

    /// A session that was not used: a connection that was parked is parked again.
    pub(crate) fn give_back(&mut self, name: Name, connection: Connection<C>) {
        match connection {
            Connection::Parked(connection) => self.close(name, How::Kept, Some(connection)),
            Connection::Fresh(_) | Connection::Missing => self.close(name, How::Finished, None),
        }
    }

    // ---- sessions ----

    /// Ends a session, unless it has ended already. `connection` is for `Kept`.
    pub(crate) fn close(&mut self, name: Name, how: How, connection: Option<C>) {
        let open = self.is_open(name);
        self.forget_session(name);
        if !open {
            self.discarded.extend(connection);
            return;
        }
        if let (How::Kept, Some(connection)) = (how, connection) {
            self.discarded.extend(self.parked.insert(name.lease, connection));
        }
        self.say(&ToPool::Close { session: name.session, how });
    }

    /// Tells the operator what the session is doing, if the pool keeps up.
    pub(crate) fn label(&mut self, name: Name, text: &str) {
        if self.is_open(name) && self.outbox.is_empty() {
            self.say(&ToPool::Label { session: name.session, text: answer::label(text.to_owned()) });
        }
    }

    /// Why the pool ended a session that its holder has not closed.
    pub(crate) fn ended(&self, name: Name) -> Option<Ended> {
        if name.epoch != self.epoch {
            // Its channel is gone, and so are the workers of that core, if the pool did not give a reason before.
            return Some(self.last_words.get(&(name.epoch, name.session)).copied().unwrap_or(Ended::WorkerGone));
        }
        *self.sessions.get(&name.session)?
    }

    fn is_open(&self, name: Name) -> bool {
        name.epoch == self.epoch && self.sessions.get(&name.session) == Some(&None)
    }

    fn forget_session(&mut self, name: Name) {
        if name.epoch == self.epoch {
            self.sessions.remove(&name.session);
        } else {
            self.last_words.remove(&(name.epoch, name.session));
        }
    }

    /// Messages that are not answered. They are short, so that they can be encoded.
    fn say(&mut self, message: &ToPool) {
        if self.connected
            && let Ok(packet) = codec::encode(message)
        {
            self.outbox.push_back(packet);
        }
    }

    // ---- packets ----

    /// Takes a packet in.
    ///
    /// # Errors
    /// Why the channel can't be trusted any more. [`Machine::lost`] is next.
    pub(crate) fn receive(&mut self, packet: &[u8], mut fds: Vec<OwnedFd>, fds_lost: bool) -> Result<Event, Loss> {
        let message = if fds_lost {
            fds.clear();
            codec::decode_without_descriptors(packet)
        } else {
            codec::decode::<ToClient>(packet, mem::take(&mut fds)).map(|(message, received)| {
                fds = received;
                message
            })
        };
        let message = message.map_err(|error| Loss::Broken(format!("the pool sent {error}")))?;
        let fd = fds.pop();
        match message {
            ToClient::Session { request, session, lease, fresh, pid, protocol, transport, documents } => {
                let name = Name { epoch: self.epoch, session, lease };
                let connection = match (fresh, fd) {
                    (true, Some(fd)) => Connection::Fresh(fd),
                    (true, None) => return self.session_without_socket(request, name),
                    (false, _) => self.parked.remove(&lease).map_or(Connection::Missing, Connection::Parked),
                };
                self.session(request, Granted { name, pid, protocol, transport, documents, connection })
            }
            ToClient::Refused { request, refusal } => {
                if let Some(session) = self.asked.get(&request).and_then(|asked| asked.reconnecting) {
                    self.sessions.remove(&session);
                }
                let lost = fd.is_none() && refusal == Refusal::SpawnFailed;
                let reply = if lost { Reply::OutOfDescriptors } else { Reply::Refused(refusal, fd) };
                self.answer(request, |_| true, reply)
            }
            ToClient::Done { request } => self.answer(request, wants_done, Reply::Done),
            ToClient::Figure { request, figure } => self.answer(request, wants_figure, Reply::Figure(figure)),
            ToClient::Status { request } => {
                let reply = fd.map_or(Reply::OutOfDescriptors, Reply::Status);
                self.answer(request, |message| matches!(message, ToPool::Status { .. }), reply)
            }
            ToClient::Operator { request } => {
                let reply = fd.map_or(Reply::OutOfDescriptors, Reply::Operator);
                self.answer(request, |message| matches!(message, ToPool::Operate { .. }), reply)
            }
            ToClient::Ended { session, lease, why } => {
                self.discarded.extend(self.parked.remove(&lease));
                if let Some(ended) = self.sessions.get_mut(&session) {
                    ended.get_or_insert(why);
                }
                Ok(Event::Noted)
            }
            ToClient::Goodbye { why } => {
                self.goodbye = Some(why);
                Ok(Event::Noted)
            }
        }
    }

    fn session(&mut self, request: RequestId, granted: Granted<C>) -> Result<Event, Loss> {
        let session = granted.name.session;
        self.check_asked(request)?;
        let Some(asked) = self.asked.get_mut(&request) else {
            // It crossed our Cancel.
            if self.sessions.insert(session, None).is_some() {
                return Err(Loss::Broken("the pool sent a session twice".into()));
            }
            self.give_back(granted.name, granted.connection);
            return Ok(Event::Noted);
        };
        let fits = asked.answer.is_none()
            && match asked.reconnecting {
                Some(old) => old == session && matches!(granted.connection, Connection::Fresh(_)),
                None => matches!(asked.message, ToPool::Get { .. }) && !self.sessions.contains_key(&session),
            };
        if !fits {
            return Err(Loss::Broken("the pool sent a session that nobody asked for".into()));
        }
        asked.answer = Some(Reply::Session(granted));
        self.sessions.entry(session).or_insert(None);
        Ok(Event::Answered(request))
    }

    /// The socket was lost on its way; the session is there and must not stay.
    fn session_without_socket(&mut self, request: RequestId, name: Name) -> Result<Event, Loss> {
        self.sessions.insert(name.session, None);
        self.close(name, How::Finished, None);
        self.answer(request, |message| matches!(message, ToPool::Get { .. }), Reply::OutOfDescriptors)
    }

    fn answer(&mut self, request: RequestId, fits: impl Fn(&ToPool) -> bool, reply: Reply<C>) -> Result<Event, Loss> {
        self.check_asked(request)?;
        let Some(asked) = self.asked.get_mut(&request) else { return Ok(Event::Noted) };
        if asked.answer.is_some() || !fits(&asked.message) {
            return Err(Loss::Broken("the pool sent an answer to another question".into()));
        }
        asked.answer = Some(reply);
        Ok(Event::Answered(request))
    }

    /// An id that was given out may have been forgotten since; one that was not can't be known to the pool.
    fn check_asked(&self, request: RequestId) -> Result<(), Loss> {
        if request.0 != 0 && request.0 < self.next_request {
            Ok(())
        } else {
            Err(Loss::Broken(format!("the pool answered question {}, which was never asked", request.0)))
        }
    }

    // ---- the channel's end and the next one ----

    /// There is no channel any more, and none of its sessions. What is unanswered waits for [`Machine::resume`] or
    /// [`Machine::give_up`], unless the pool ended the channel with words, or broke it.
    pub(crate) fn lost(&mut self, loss: Loss) {
        let said = mem::take(&mut self.sessions).into_iter();
        self.last_words.extend(said.filter_map(|(session, why)| Some(((self.epoch, session), why?))));
        self.epoch += 1;
        self.connected = false;
        self.discarded.extend(mem::take(&mut self.parked).into_values());
        self.outbox.clear();
        for asked in self.asked.values_mut() {
            asked.reconnecting = None;
            asked.losses += 1;
            // Its holder has not seen it, and nothing was sent on it.
            if let Some(Reply::Session(granted)) = asked.answer.take_if(|answer| matches!(answer, Reply::Session(_)))
                && let Connection::Parked(connection) = granted.connection
            {
                self.discarded.push(connection);
            }
            if asked.losses >= LOSSES {
                let why = format!("its core ended {LOSSES} times while this was asked of it");
                asked.answer.get_or_insert(Reply::Gone(Gone { why }));
            }
        }
        match (loss, self.goodbye.take()) {
            (Loss::Broken(why), _) | (Loss::Closed, Some(why)) => self.give_up(&Gone { why }),
            (Loss::Closed, None) => {}
        }
    }

    /// There is a new channel: asks again what is unanswered.
    pub(crate) fn resume(&mut self) {
        self.connected = true;
        self.goodbye = None;
        for asked in self.asked.values().filter(|asked| asked.answer.is_none()) {
            // It could be encoded before.
            self.outbox.extend(codec::encode(&asked.message).ok());
        }
    }

    /// There will be no new channel for what is unanswered.
    pub(crate) fn give_up(&mut self, gone: &Gone) {
        for asked in self.asked.values_mut() {
            asked.answer.get_or_insert_with(|| Reply::Gone(gone.clone()));
        }
    }
}

fn wants_done(message: &ToPool) -> bool {
    matches!(
        message,
        ToPool::Clear { .. }
            | ToPool::SetMax { .. }
            | ToPool::SetMaxPerApp { .. }
            | ToPool::SetMaxIdleTime { .. }
            | ToPool::Restart { .. }
            | ToPool::Add { .. }
            | ToPool::Remove { .. }
            | ToPool::Stop { .. }
            | ToPool::Start { .. }
            | ToPool::Disable { .. }
            | ToPool::Enable { .. }
            | ToPool::EndSession { .. }
            | ToPool::Retire { .. }
            | ToPool::Reload { .. }
    )
}

fn wants_figure(message: &ToPool) -> bool {
    matches!(message, ToPool::GetActive { .. } | ToPool::GetCount { .. } | ToPool::GetSpawnServerPid { .. })
}

#[cfg(test)]
mod tests;
