//! The channel in a tokio program. One task per channel reads it and wakes whoever is answered: a `get` that was
//! polled once and then left alone must not keep the answers of others from them, so waiters can't read for
//! each other here.

use crate::door::{self, Door, DoorLink, Knock};
use crate::error::{CallError, ConnectError, GetError};
use crate::line::{Books, Line, Parked, Turn};
use crate::machine::{Connection, Gone, Granted, Loss, Name, Reply};
use crate::owner::Local;
use crate::root;
use crate::session::Session;
use crate::stream::Stream;
use hatchery_protocol::client::{RequestId, ToPool};
use hatchery_protocol::codec::MAX_PACKET;
use hatchery_protocol::memfd;
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::packet;
use hatchery_protocol::refusal::Refusal;
use hatchery_protocol::status::Status;
use rustix::net::{RecvFlags, SendFlags};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// Times that one `get` asks, when connections turn out dead and sessions end before they are used.
pub(crate) const TRIES: u32 = 4;

/// A channel to the pool, from which sessions come. Cheap to clone; all clones use the one channel. It works in
/// the runtime that it was connected in; the sessions of a client end when the last clone *and* the last session
/// are dropped.
///
/// When the pool's core is restarted, the client makes itself a new channel and asks again what was not answered.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) line: Line<Plugged>,
    /// Held by whoever makes a new channel.
    reviving: Mutex<()>,
}

/// The channel's socket and the task that reads it.
#[derive(Debug)]
pub(crate) struct Plugged {
    socket: Local<UnixStream>,
    reader: AbortHandle,
}

impl AsFd for Plugged {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        if self.socket.owner().is_here() {
            self.reader.abort();
        }
    }
}

impl Client {
    pub(crate) async fn connect(door: &Arc<Door>, link: DoorLink) -> Result<Self, ConnectError> {
        let socket = open(door).await?;
        let shared = Arc::new(Shared { line: Line::new(link), reviving: Mutex::new(()) });
        shared.line.with(|books| shared.plug_in(books, socket));
        Ok(Self { shared })
    }

    /// A session with the app at `root`, as soon as a worker can serve it. The pool starts workers as needed, and
    /// bounds how long this may take. Can be dropped at any time: that cancels it.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub async fn get(&self, root: impl AsRef<Path>) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), AppOptions::default()).await
    }

    /// The same, with options for an app that the pool does not know yet.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub async fn get_with(&self, root: impl AsRef<Path>, options: &AppOptions) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), options.clone()).await
    }

    /// Workers with at least one session.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn active(&self) -> Result<u64, CallError> {
        figure(self.shared.call(|request| ToPool::GetActive { request }).await?)
    }

    /// Worker processes, whatever their state.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn count(&self) -> Result<u64, CallError> {
        figure(self.shared.call(|request| ToPool::GetCount { request }).await?)
    }

    /// The process that starts the workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn spawner_pid(&self) -> Result<i32, CallError> {
        pid(self.shared.call(|request| ToPool::GetSpawnServerPid { request }).await?)
    }

    /// All apps and workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn status(&self) -> Result<Status, CallError> {
        status(self.shared.call(|request| ToPool::Status { request }).await?)
    }

    /// Replaces all workers: idle ones go at once, others with their last session.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn clear(&self) -> Result<(), CallError> {
        done(self.shared.call(|request| ToPool::Clear { request }).await?)
    }

    /// Workers of all apps together, at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max(&self, max: u32) -> Result<(), CallError> {
        done(self.shared.call(|request| ToPool::SetMax { request, max }).await?)
    }

    /// Workers of one app, at most; 0: no limit but the pool's.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max_per_app(&self, max_per_app: u32) -> Result<(), CallError> {
        done(self.shared.call(|request| ToPool::SetMaxPerApp { request, max_per_app }).await?)
    }

    /// An idle worker leaves after this; zero: never.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max_idle(&self, max_idle: Duration) -> Result<(), CallError> {
        done(self.shared.call(|request| ToPool::SetMaxIdleTime { request, max_idle }).await?)
    }
}

impl Shared {
    async fn get(self: &Arc<Self>, root: &Path, options: AppOptions) -> Result<Session, GetError> {
        if !self.line.owner.is_here() {
            return Err(GetError::Forked);
        }
        let app_root = normalised(root)?;
        let options = Box::new(options);
        let mut question = self.ask(|request| ToPool::Get { request, app_root, options, key: None })?;
        let mut reconnected = None;
        let mut tries = TRIES;
        loop {
            let (reply, get) = question.answer().await;
            tries -= 1;
            let mut granted = match judge(reply) {
                Ok(granted) => granted,
                // What was refused is a fresh socket: that session is over, another will do.
                Err(GetError::Refused(_)) if tries > 0 && reconnected.is_some() => {
                    let name = reconnected.take().expect("just seen");
                    question.again(get, name)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(session) = self.session(&mut granted, tries == 0)? {
                return Ok(session);
            }
            reconnected = Some(granted.name);
            question.again(get, granted.name)?;
        }
    }

    /// The session, unless its connection is dead or it has ended already.
    fn session(self: &Arc<Self>, granted: &mut Granted<Parked>, last: bool) -> Result<Option<Session>, GetError> {
        let transport = granted.transport;
        let connection = std::mem::replace(&mut granted.connection, Connection::Missing);
        if !last && self.line.with(|books| books.machine.ended(granted.name)).is_some() {
            return Ok(None);
        }
        let reused = matches!(connection, Connection::Parked(_));
        let stream = match connection {
            Connection::Fresh(fd) => Stream::new(fd, transport).map(Local::new),
            Connection::Parked(parked) if parked.is_silent() => match parked {
                Parked::Stream(stream) => Ok(stream),
                Parked::Fd(fd) => {
                    rustix::io::ioctl_fionbio(&fd, true).map_err(io::Error::from)?;
                    Stream::new(fd, transport).map(Local::new)
                }
            },
            Connection::Parked(_) | Connection::Missing => return Ok(None),
        };
        match stream {
            Ok(stream) => Ok(Some(Session::new(stream, Arc::clone(self), granted, reused))),
            Err(error) => {
                self.line.with(|books| {
                    books.machine.give_back(granted.name, Connection::Missing);
                    books.flush()
                });
                Err(error.into())
            }
        }
    }

    async fn call(self: &Arc<Self>, message: impl FnOnce(RequestId) -> ToPool) -> Result<Reply<Parked>, CallError> {
        if !self.line.owner.is_here() {
            return Err(CallError::Forked);
        }
        let mut question = self.ask(message).map_err(|error| CallError::Unreadable(error.to_string()))?;
        Ok(question.answer().await.0)
    }

    fn ask(self: &Arc<Self>, message: impl FnOnce(RequestId) -> ToPool) -> Result<Question<'_>, GetError> {
        self.line.with(|books| {
            let request = books.machine.ask(message).map_err(|error| GetError::Invalid(error.to_string()))?;
            books.flush();
            Ok(Question { shared: self, request, open: true })
        })
    }

    /// Makes a new channel, unless somebody else does, or `request` is answered meanwhile.
    async fn revive(self: &Arc<Self>, request: RequestId) {
        let _held = self.reviving.lock().await;
        if self.line.with(|books| books.socket.is_some() || books.machine.is_answered(request)) {
            return;
        }
        let opened = match self.line.door.get() {
            Ok(door) => open(&door).await,
            Err(error) => Err(error),
        };
        self.line.with(|books| match opened {
            Ok(socket) => self.plug_in(books, socket),
            Err(error) => books.give_up(&Gone::from(error)),
        });
    }

    fn plug_in(self: &Arc<Self>, books: &mut Books<Plugged>, socket: Local<UnixStream>) {
        let reader = spawn_reader(Arc::downgrade(self), books.machine.epoch());
        books.plug_in(Plugged { socket, reader });
    }

    /// Carries packets between socket and books, until the channel of this epoch is gone.
    fn poll_carry(&self, epoch: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.line.with(|books| {
            while books.machine.epoch() == epoch {
                books.sender.get_or_insert_with(|| cx.waker().clone());
                if poll_send(books, cx).is_ready() || poll_receive(books, cx).is_ready() {
                    continue;
                }
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    }
}

/// Sends one packet that waits; pending when there is none, or no room.
fn poll_send(books: &mut Books<Plugged>, cx: &mut Context<'_>) -> Poll<()> {
    let (Some(plugged), Some(packet)) = (&books.socket, books.machine.outbox().front()) else { return Poll::Pending };
    let socket = &*plugged.socket;
    let sent = match socket.poll_write_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) => socket.try_io(Interest::WRITABLE, || {
            packet::send(socket, packet, &[], SendFlags::DONTWAIT).map_err(io::Error::from)
        }),
    };
    match sent {
        Ok(()) => {
            books.machine.outbox().pop_front();
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => {
            books.drain();
            books.lose(Loss::Closed);
        }
    }
    Poll::Ready(())
}

/// Takes in one packet, or learns that there is none.
fn poll_receive(books: &mut Books<Plugged>, cx: &mut Context<'_>) -> Poll<()> {
    let (Some(plugged), Some(buffer)) = (&books.socket, &mut books.buffer) else { return Poll::Pending };
    let socket = &*plugged.socket;
    match socket.poll_read_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => {
            books.lose(Loss::Closed);
            return Poll::Ready(());
        }
        Poll::Ready(Ok(())) => {}
    }
    let mut received = Err(rustix::io::Errno::AGAIN);
    let result = socket.try_io(Interest::READABLE, || {
        received = packet::receive(socket, buffer, RecvFlags::DONTWAIT);
        received.as_ref().map(|_| ()).map_err(|errno| io::Error::from(*errno))
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // What was received before the reset comes after it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => books.drain(),
        _ => {
            books.take_in(received);
        }
    }
    Poll::Ready(())
}

fn spawn_reader(shared: Weak<Shared>, epoch: u64) -> AbortHandle {
    let reader = Reader { shared, epoch };
    let task = tokio::spawn(async move {
        poll_fn(|cx| match reader.shared.upgrade() {
            Some(shared) => shared.poll_carry(reader.epoch, cx),
            None => Poll::Ready(()),
        })
        .await;
    });
    task.abort_handle()
}

/// The task's claim to its channel. When its runtime ends, the channel does: nobody would read it any more.
#[derive(Debug)]
struct Reader {
    shared: Weak<Shared>,
    epoch: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if shared.line.owner.is_here() {
            shared.line.with(|books| {
                if books.machine.epoch() == self.epoch {
                    books.lose(Loss::Closed);
                }
            });
        }
    }
}

/// A question that was asked. Dropping it takes it back.
#[derive(Debug)]
struct Question<'a> {
    shared: &'a Arc<Shared>,
    request: RequestId,
    open: bool,
}

impl Question<'_> {
    async fn answer(&mut self) -> (Reply<Parked>, ToPool) {
        loop {
            let answer = poll_fn(|cx| {
                self.shared.line.with(|books| match books.turn(self.request, cx.waker()) {
                    Turn::Answered(reply, message) => Poll::Ready(Some((reply, message))),
                    Turn::Lost => Poll::Ready(None),
                    Turn::Waits => Poll::Pending,
                })
            });
            if let Some(answer) = answer.await {
                self.open = false;
                return answer;
            }
            self.shared.revive(self.request).await;
        }
    }

    fn again(&mut self, get: ToPool, name: Name) -> Result<(), GetError> {
        self.request = self.shared.line.with(|books| {
            let request = books.machine.ask_again(get, name).map_err(|error| GetError::Invalid(error.to_string()))?;
            books.flush();
            Ok::<_, GetError>(request)
        })?;
        self.open = true;
        Ok(())
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.open {
            self.shared.line.forget(self.request);
        }
    }
}

/// A new channel through the door.
async fn open(door: &Door) -> Result<Local<UnixStream>, ConnectError> {
    let attempts = async {
        let mut attempt = 0;
        loop {
            let knock = Knock::new()?;
            let mut crowded = 0;
            while !knock.try_enter(door)? {
                tokio::time::sleep(door::pause(crowded)).await;
                crowded += 1;
            }
            let ours = std::os::unix::net::UnixStream::from(knock.into_ours());
            ours.set_nonblocking(true)?;
            let socket = Local::new(UnixStream::from_std(ours)?);
            match greeting(&socket).await? {
                Some(packet) => return door::greeted(&packet).map(|()| socket),
                None if attempt < door::ATTEMPTS => tokio::time::sleep(door::pause(attempt)).await,
                None => return Err(ConnectError::PoolGone("it closes every channel before a greeting".into())),
            }
            attempt += 1;
        }
    };
    match tokio::time::timeout(door::LIMIT, attempts).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut(door::LIMIT)),
    }
}

/// The first packet, or none if the channel is closed.
async fn greeting(socket: &UnixStream) -> Result<Option<Vec<u8>>, ConnectError> {
    let mut packet = vec![0; MAX_PACKET];
    let received = socket.async_io(Interest::READABLE, || {
        packet::receive(socket, &mut packet, RecvFlags::DONTWAIT).map_err(io::Error::from)
    });
    match received.await {
        Ok(received) => {
            packet.truncate(received.len);
            Ok((!packet.is_empty()).then_some(packet))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
    }
}

// ---- answers, read the same way by both shells ----

pub(crate) fn normalised(root: &Path) -> Result<Vec<u8>, GetError> {
    root::normalised(root)
        .map_err(|error| GetError::Invalid(format!("{}: the current folder is not known: {error}", root.display())))
}

pub(crate) fn judge(reply: Reply<Parked>) -> Result<Granted<Parked>, GetError> {
    match reply {
        Reply::Session(granted) => Ok(granted),
        Reply::Refused(Refusal::SpawnFailed, Some(report)) => Err(spawn_failed(&report)),
        Reply::Refused(refusal, _) => Err(GetError::Refused(refusal)),
        Reply::OutOfDescriptors => Err(GetError::OutOfDescriptors),
        Reply::Gone(gone) => Err(gone.into()),
        // The machine lets only these answers through to a `get`.
        Reply::Done | Reply::Figure(_) | Reply::Status(_) => {
            Err(GetError::PoolGone("it sent an answer to another question".into()))
        }
    }
}

fn spawn_failed(report: &OwnedFd) -> GetError {
    match memfd::read(report) {
        Ok(report) => GetError::SpawnFailed(Box::new(report)),
        Err(_) => GetError::Refused(Refusal::SpawnFailed),
    }
}

fn refused<T>(reply: Reply<Parked>) -> Result<T, CallError> {
    Err(match reply {
        Reply::Refused(refusal, _) => CallError::Refused(refusal),
        Reply::OutOfDescriptors => CallError::OutOfDescriptors,
        Reply::Gone(gone) => gone.into(),
        _ => CallError::Unreadable("it is an answer to another question".into()),
    })
}

pub(crate) fn done(reply: Reply<Parked>) -> Result<(), CallError> {
    if let Reply::Done = reply { Ok(()) } else { refused(reply) }
}

pub(crate) fn figure(reply: Reply<Parked>) -> Result<u64, CallError> {
    if let Reply::Figure(figure) = reply { Ok(figure) } else { refused(reply) }
}

pub(crate) fn pid(reply: Reply<Parked>) -> Result<i32, CallError> {
    let figure = figure(reply)?;
    i32::try_from(figure).map_err(|_| CallError::Unreadable(format!("{figure} is no process id")))
}

pub(crate) fn status(reply: Reply<Parked>) -> Result<Status, CallError> {
    match reply {
        Reply::Status(status) => memfd::read(&status).map_err(|error| CallError::Unreadable(error.to_string())),
        other => refused(other),
    }
}
