//! The same for programs without a runtime. Starts no thread, so that a program may fork as it likes; what is
//! made before a fork belongs to the process that made it, and answers `Forked` in others.
//!
//! Any number of threads may use one [`Client`]. One of those that wait reads the channel for all; when it has
//! its own answer, it wakes another to go on.

mod session;

use crate::answer;
use crate::client::TRIES;
use crate::door::{self, Door, DoorLink, Knock};
use crate::error::{CallError, ConnectError, GetError};
use crate::line::{Books, Line, Parked, Turn};
use crate::machine::{Connection, Gone, Granted, Name, Reply};
use crate::server::wait_for;
use hatchery_protocol::client::{RequestId, RestartMode, SessionId, ToPool};
use hatchery_protocol::codec::MAX_PACKET;
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::packet;
use hatchery_protocol::status::Status;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub use crate::ticket::Ticket;
pub use session::Session;

/// A channel to the pool, from which sessions come. Cheap to clone; all clones, in all threads, use the one channel.
///
/// When the pool's core is restarted, the client makes itself a new channel and asks again what was not answered.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) line: Line<Arc<OwnedFd>>,
    /// Held by whoever makes a new channel.
    reviving: Mutex<()>,
}

impl Client {
    pub(crate) fn connect(door: &Arc<Door>, link: DoorLink) -> Result<Self, ConnectError> {
        let socket = Arc::new(open(door)?);
        let line = Line::new(link);
        line.with(|books| books.plug_in(socket));
        Ok(Self { shared: Arc::new(Shared { line, reviving: Mutex::new(()) }) })
    }

    /// A session with the app at `root`, as soon as a worker can serve it. The pool starts workers as needed, and
    /// bounds how long this may take.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub fn get(&self, root: impl AsRef<Path>) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), AppOptions::default(), None)
    }

    /// The same, with options for an app that the pool does not know yet.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub fn get_with(&self, root: impl AsRef<Path>, options: &AppOptions) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), options.clone(), None)
    }

    /// The same, telling the operator from the beginning what the session is for, such as the request line, in up to
    /// 200 characters: what [`Session::label`] says later.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub fn get_labelled(
        &self,
        root: impl AsRef<Path>,
        options: &AppOptions,
        label: impl Into<String>,
    ) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), options.clone(), Some(label.into()))
    }

    /// Workers with at least one session.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn active(&self) -> Result<u64, CallError> {
        answer::figure(self.shared.call(|request| ToPool::GetActive { request })?)
    }

    /// Worker processes, whatever their state.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn count(&self) -> Result<u64, CallError> {
        answer::figure(self.shared.call(|request| ToPool::GetCount { request })?)
    }

    /// The process that starts the workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn spawner_pid(&self) -> Result<i32, CallError> {
        answer::pid(self.shared.call(|request| ToPool::GetSpawnServerPid { request })?)
    }

    /// All apps and workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn status(&self) -> Result<Status, CallError> {
        answer::status(self.shared.call(|request| ToPool::Status { request })?)
    }

    /// Replaces all workers: idle ones go at once, others with their last session.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn clear(&self) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Clear { request })?)
    }

    /// Workers of all apps together, at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn set_max(&self, max: u32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMax { request, max })?)
    }

    /// Workers of one app, at most; 0: no limit but the pool's.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn set_max_per_app(&self, max_per_app: u32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMaxPerApp { request, max_per_app })?)
    }

    /// An idle worker leaves after this; zero: never.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn set_max_idle(&self, max_idle: Duration) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMaxIdleTime { request, max_idle })?)
    }

    /// Begins the next generation of the app at `root`, and waits until it serves, or a newer one does. With
    /// [`RestartMode::Graceful`] new workers are ready before old ones leave, and no session is lost; with
    /// [`RestartMode::Kill`] old workers and their sessions end at once.
    ///
    /// # Errors
    /// [`CallError::SpawnFailed`] with the report: the generation could not be started, and the old one serves on.
    /// [`CallError::Refused`]: the pool knows no such app, or has stopped or disabled it, or is ending.
    pub fn restart(&self, root: impl AsRef<Path>, mode: RestartMode) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Restart { request, root, mode })?)
    }

    /// Registers the app at `root`, which stays until it is [removed](Client::remove), or gives other options to one
    /// that is registered. Its workers take them over at its next restart, limits of the pool's own hold at once.
    ///
    /// # Errors
    /// [`CallError::Refused`]: options that make no sense, or go beyond what the operator of a privileged pool allows.
    pub fn add(&self, root: impl AsRef<Path>, options: &AppOptions) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        let options = Box::new(options.clone());
        answer::done(self.shared.call(|request| ToPool::Add { request, root, options })?)
    }

    /// Forgets the app at `root`: its workers drain and leave. A later `get` may make it known again.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub fn remove(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Remove { request, root })?)
    }

    /// Stops the app at `root`: its workers drain and leave, and each `get` is refused with `Refusal::Stopped` until
    /// it is [started](Client::start). It stays registered.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub fn stop(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Stop { request, root })?)
    }

    /// Lets the app at `root` be served again after [`Client::stop`]. Workers start when it is asked for.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub fn start(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Start { request, root })?)
    }

    /// Replaces the worker with this process id: it takes no new session, and leaves with its last one.
    ///
    /// # Errors
    /// [`CallError::Refused`]: no worker of the pool is that process.
    pub fn retire(&self, pid: i32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Retire { request, pid })?)
    }

    /// Lets the pool read its configuration again where it came from ([`PoolConfig::source`]). What the operator
    /// wrote there holds from then on, whoever asks; what can only be said at a start stays as it was.
    ///
    /// # Errors
    /// [`CallError::Refused`] with `Refusal::Invalid`: what is wrong, one or more lines. Nothing has changed then.
    ///
    /// [`PoolConfig::source`]: crate::PoolConfig::source
    pub fn reload(&self) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Reload { request })?)
    }

    /// Refuses new sessions of the app at `root` for this reason until it is [enabled](Client::enable); its workers
    /// stay, and open sessions go on.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub fn disable(&self, root: impl AsRef<Path>, why: impl Into<String>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        let why = why.into();
        answer::done(self.shared.call(|request| ToPool::Disable { request, root, why })?)
    }

    /// Serves the app at `root` again, whoever disabled it, and whatever failed before.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub fn enable(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Enable { request, root })?)
    }

    /// Ends a session of any client's at once, as the pool's status names it.
    ///
    /// # Errors
    /// [`CallError::Refused`]: there is no such open session.
    pub fn end_session(&self, session: SessionId) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::EndSession { request, session })?)
    }

    /// A connection that speaks the line protocol of the admin socket, with all rights: `status`, `json sessions`,
    /// `events` and the rest, a line each. It needs no admin socket, and ends with the pool's core.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn operate(&self) -> Result<UnixStream, CallError> {
        let socket = answer::operator(self.shared.call(|request| ToPool::Operate { request })?)?;
        Ok(UnixStream::from(socket))
    }
}

impl Shared {
    fn get(self: &Arc<Self>, root: &Path, options: AppOptions, label: Option<String>) -> Result<Session, GetError> {
        if !self.line.owner.is_here() {
            return Err(GetError::Forked);
        }
        let app_root = answer::normalised(root).map_err(GetError::Invalid)?;
        let options = Box::new(options);
        let label = label.map(answer::label);
        let mut request = self.ask(|request| ToPool::Get { request, app_root, options, key: None, label })?;
        let mut reconnected: Option<Name> = None;
        let mut tries = TRIES;
        loop {
            let (reply, get) = self.answer(request);
            tries -= 1;
            let mut granted = match answer::judge(reply) {
                Ok(granted) => granted,
                // What was refused is a fresh socket: that session is over, another will do.
                Err(GetError::Refused(_)) if tries > 0 && reconnected.is_some() => {
                    let name = reconnected.take().expect("just seen");
                    request = self.ask_again(get, name)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(session) = self.session(&mut granted, tries == 0)? {
                return Ok(session);
            }
            reconnected = Some(granted.name);
            request = self.ask_again(get, granted.name)?;
        }
    }

    /// The session, unless its connection is dead or it has ended already.
    fn session(self: &Arc<Self>, granted: &mut Granted<Parked>, last: bool) -> Result<Option<Session>, GetError> {
        let connection = std::mem::replace(&mut granted.connection, Connection::Missing);
        if !last && self.line.with(|books| books.machine.ended(granted.name)).is_some() {
            return Ok(None);
        }
        let reused = matches!(connection, Connection::Parked(_));
        let fd = match connection {
            Connection::Fresh(fd) => fd,
            Connection::Parked(parked) if parked.is_silent() => match parked {
                Parked::Fd(fd) => fd,
                Parked::Stream(_) => return Ok(None),
            },
            Connection::Parked(_) | Connection::Missing => return Ok(None),
        };
        if let Err(errno) = rustix::io::ioctl_fionbio(&fd, false) {
            self.line.with(|books| {
                books.machine.give_back(granted.name, Connection::Missing);
                books.flush()
            });
            return Err(io::Error::from(errno).into());
        }
        Ok(Some(Session::new(fd, Arc::clone(self), granted, reused)))
    }

    fn call(self: &Arc<Self>, message: impl FnOnce(RequestId) -> ToPool) -> Result<Reply<Parked>, CallError> {
        if !self.line.owner.is_here() {
            return Err(CallError::Forked);
        }
        let request = self.ask(message).map_err(|error| CallError::Invalid(error.to_string()))?;
        Ok(self.answer(request).0)
    }

    fn ask(&self, message: impl FnOnce(RequestId) -> ToPool) -> Result<RequestId, GetError> {
        self.line.with(|books| {
            let request = books.machine.ask(message).map_err(|error| GetError::Invalid(error.to_string()))?;
            books.flush();
            Ok(request)
        })
    }

    fn ask_again(&self, get: ToPool, name: Name) -> Result<RequestId, GetError> {
        self.line.with(|books| {
            let request = books.machine.ask_again(get, name).map_err(|error| GetError::Invalid(error.to_string()))?;
            books.flush();
            Ok(request)
        })
    }

    /// Waits for the answer, reading the channel if no other thread does.
    fn answer(&self, request: RequestId) -> (Reply<Parked>, ToPool) {
        let mut waker = None;
        loop {
            let step = self.line.with(|books| {
                let waker = waker.get_or_insert_with(|| Waker::from(Arc::new(Waiting(thread::current()))));
                match books.turn(request, waker) {
                    Turn::Answered(reply, message) => {
                        books.pass_on();
                        Step::Done(reply, message)
                    }
                    Turn::Lost => Step::Revive,
                    Turn::Waits => match (books.buffer.take(), &books.socket) {
                        (Some(buffer), Some(socket)) => Step::Read {
                            socket: Arc::clone(socket),
                            buffer,
                            epoch: books.machine.epoch(),
                            sends: !books.machine.outbox().is_empty(),
                        },
                        _ => Step::Follow,
                    },
                }
            });
            match step {
                Step::Done(reply, message) => return (reply, message),
                Step::Revive => self.revive(request),
                Step::Read { socket, buffer, epoch, sends } => self.read(&socket, buffer, epoch, sends),
                // Whoever reads, or has the channel lost, wakes this thread.
                Step::Follow => thread::park(),
            }
        }
    }

    /// Waits for a packet, and takes it in. With something still to send, for room as well.
    fn read(&self, socket: &OwnedFd, mut buffer: Vec<u8>, epoch: u64, sends: bool) {
        let ready = if sends { wait_for(socket, PollFlags::IN | PollFlags::OUT, None).map(|_| ()) } else { Ok(()) };
        let flags = if sends { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        let mut received = ready.and_then(|()| packet::receive(socket, &mut buffer, flags));
        if let Err(Errno::CONNRESET) = received {
            // What was received before the reset comes after it.
            received = packet::receive(socket, &mut buffer, flags);
        }
        self.line.with(|books| {
            books.buffer = Some(buffer);
            // A later channel has nothing to do with this packet.
            if books.machine.epoch() == epoch && !matches!(received, Err(Errno::AGAIN)) {
                books.take_in(received);
            }
            books.flush();
        });
    }

    /// Makes a new channel, unless another thread has, or `request` is answered meanwhile.
    fn revive(&self, request: RequestId) {
        let _held = self.reviving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.line.with(|books| books.socket.is_some() || books.machine.is_answered(request)) {
            return;
        }
        let opened = self.line.door.get().and_then(|door| open(&door));
        self.line.with(|books| match opened {
            Ok(socket) => books.plug_in(Arc::new(socket)),
            Err(error) => books.give_up(&Gone::from(error)),
        });
    }

    /// Waits until what waits in the outbox is sent, or the channel is gone.
    pub(crate) fn send_rest(&self) {
        loop {
            let full = self.line.with(|books| if books.flush() { None } else { books.socket.clone() });
            let Some(socket) = full else { return };
            if wait_for(&socket, PollFlags::OUT, None).is_err() {
                return;
            }
        }
    }
}

/// What a thread that waits does next.
#[derive(Debug)]
enum Step {
    Done(Reply<Parked>, ToPool),
    Revive,
    Read { socket: Arc<OwnedFd>, buffer: Vec<u8>, epoch: u64, sends: bool },
    Follow,
}

impl Books<Arc<OwnedFd>> {
    /// If nobody reads the channel and somebody waits, wakes one to read.
    fn pass_on(&mut self) {
        if self.buffer.is_some() {
            self.wake_first();
        }
    }
}

/// A thread that waits for an answer.
#[derive(Debug)]
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A new channel through the door.
fn open(door: &Door) -> Result<OwnedFd, ConnectError> {
    let until = Instant::now() + door::LIMIT;
    let left = || until.checked_duration_since(Instant::now()).ok_or(ConnectError::TimedOut(door::LIMIT));
    let mut attempt = 0;
    loop {
        let knock = Knock::new()?;
        let mut crowded = 0;
        while !knock.try_enter(door)? {
            thread::sleep(door::pause(crowded).min(left()?));
            crowded += 1;
        }
        let socket = knock.into_ours();
        match greeting(&socket, left()?)? {
            Some(packet) => return door::greeted(&packet).map(|()| socket),
            None if attempt < door::ATTEMPTS => thread::sleep(door::pause(attempt)),
            None => return Err(ConnectError::PoolGone("it closes every channel before a greeting".into())),
        }
        attempt += 1;
    }
}

/// The first packet, or none if the channel is closed.
fn greeting(socket: &OwnedFd, limit: Duration) -> Result<Option<Vec<u8>>, ConnectError> {
    if !wait_for(socket, PollFlags::IN, Some(limit)).map_err(io::Error::from)? {
        return Err(ConnectError::TimedOut(door::LIMIT));
    }
    let mut packet = vec![0; MAX_PACKET];
    match packet::receive(socket, &mut packet, RecvFlags::empty()) {
        Ok(received) => {
            packet.truncate(received.len);
            Ok((!packet.is_empty()).then_some(packet))
        }
        Err(Errno::CONNRESET) => Ok(None),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}
