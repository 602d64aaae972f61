//! A client in a tokio program.

use crate::answer;
use crate::carry::{self, Plugged};
use crate::door::{Door, DoorLink};
use crate::error::{CallError, ConnectError, GetError};
use crate::line::{Books, Line, Parked, Turn};
use crate::machine::{Connection, Gone, Granted, Name, Reply};
use crate::owner::Local;
use crate::session::Session;
use crate::stream::Stream;
use hatchery_protocol::client::{RequestId, RestartMode, SessionId, ToPool};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::status::Status;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

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

impl Client {
    pub(crate) async fn connect(door: &Arc<Door>, link: DoorLink) -> Result<Self, ConnectError> {
        let socket = carry::open(door).await?;
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
        self.shared.get(root.as_ref(), AppOptions::default(), None).await
    }

    /// The same, with options for an app that the pool does not know yet.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub async fn get_with(&self, root: impl AsRef<Path>, options: &AppOptions) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), options.clone(), None).await
    }

    /// The same, telling the operator from the beginning what the session is for, such as the request line, in up to
    /// 200 characters: what [`Session::label`] says later.
    ///
    /// # Errors
    /// [`GetError`]; nothing was sent to the app then.
    pub async fn get_labelled(
        &self,
        root: impl AsRef<Path>,
        options: &AppOptions,
        label: impl Into<String>,
    ) -> Result<Session, GetError> {
        self.shared.get(root.as_ref(), options.clone(), Some(label.into())).await
    }

    /// Workers with at least one session.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn active(&self) -> Result<u64, CallError> {
        answer::figure(self.shared.call(|request| ToPool::GetActive { request }).await?)
    }

    /// Worker processes, whatever their state.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn count(&self) -> Result<u64, CallError> {
        answer::figure(self.shared.call(|request| ToPool::GetCount { request }).await?)
    }

    /// The process that starts the workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn spawner_pid(&self) -> Result<i32, CallError> {
        answer::pid(self.shared.call(|request| ToPool::GetSpawnServerPid { request }).await?)
    }

    /// All apps and workers.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn status(&self) -> Result<Status, CallError> {
        answer::status(self.shared.call(|request| ToPool::Status { request }).await?)
    }

    /// Replaces all workers: idle ones go at once, others with their last session.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn clear(&self) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Clear { request }).await?)
    }

    /// Workers of all apps together, at most.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max(&self, max: u32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMax { request, max }).await?)
    }

    /// Workers of one app, at most; 0: no limit but the pool's.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max_per_app(&self, max_per_app: u32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMaxPerApp { request, max_per_app }).await?)
    }

    /// An idle worker leaves after this; zero: never.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_max_idle(&self, max_idle: Duration) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::SetMaxIdleTime { request, max_idle }).await?)
    }

    /// Begins the next generation of the app at `root`, and waits until it serves, or a newer one does. With
    /// [`RestartMode::Graceful`] new workers are ready before old ones leave, and no session is lost; with
    /// [`RestartMode::Kill`] old workers and their sessions end at once.
    ///
    /// # Errors
    /// [`CallError::SpawnFailed`] with the report: the generation could not be started, and the old one serves on.
    /// [`CallError::Refused`]: the pool knows no such app, or has stopped or disabled it, or is ending.
    pub async fn restart(&self, root: impl AsRef<Path>, mode: RestartMode) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Restart { request, root, mode }).await?)
    }

    /// Registers the app at `root`, which stays until it is [removed](Client::remove), or gives other options to one
    /// that is registered. Its workers take them over at its next restart, limits of the pool's own hold at once.
    ///
    /// # Errors
    /// [`CallError::Refused`]: options that make no sense, or go beyond what the operator of a privileged pool allows.
    pub async fn add(&self, root: impl AsRef<Path>, options: &AppOptions) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        let options = Box::new(options.clone());
        answer::done(self.shared.call(|request| ToPool::Add { request, root, options }).await?)
    }

    /// Forgets the app at `root`: its workers drain and leave. A later `get` may make it known again.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub async fn remove(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Remove { request, root }).await?)
    }

    /// Stops the app at `root`: its workers drain and leave, and each `get` is refused with `Refusal::Stopped` until
    /// it is [started](Client::start). It stays registered.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub async fn stop(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Stop { request, root }).await?)
    }

    /// Lets the app at `root` be served again after [`Client::stop`]. Workers start when it is asked for.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub async fn start(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Start { request, root }).await?)
    }

    /// Replaces the worker with this process id: it takes no new session, and leaves with its last one.
    ///
    /// # Errors
    /// [`CallError::Refused`]: no worker of the pool is that process.
    pub async fn retire(&self, pid: i32) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Retire { request, pid }).await?)
    }

    /// Lets the pool read its configuration again where it came from ([`PoolConfig::source`]). What the operator
    /// wrote there holds from then on, whoever asks; what can only be said at a start stays as it was.
    ///
    /// # Errors
    /// [`CallError::Refused`] with `Refusal::Invalid`: what is wrong, one or more lines. Nothing has changed then.
    ///
    /// [`PoolConfig::source`]: crate::PoolConfig::source
    pub async fn reload(&self) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::Reload { request }).await?)
    }

    /// Refuses new sessions of the app at `root` for this reason until it is [enabled](Client::enable); its workers
    /// stay, and open sessions go on.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub async fn disable(&self, root: impl AsRef<Path>, why: impl Into<String>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        let why = why.into();
        answer::done(self.shared.call(|request| ToPool::Disable { request, root, why }).await?)
    }

    /// Serves the app at `root` again, whoever disabled it, and whatever failed before.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the pool knows no such app.
    pub async fn enable(&self, root: impl AsRef<Path>) -> Result<(), CallError> {
        let root = answer::normalised(root.as_ref()).map_err(CallError::Invalid)?;
        answer::done(self.shared.call(|request| ToPool::Enable { request, root }).await?)
    }

    /// Ends a session of any client's at once, as the pool's status names it.
    ///
    /// # Errors
    /// [`CallError::Refused`]: there is no such open session.
    pub async fn end_session(&self, session: SessionId) -> Result<(), CallError> {
        answer::done(self.shared.call(|request| ToPool::EndSession { request, session }).await?)
    }

    /// A connection that speaks the line protocol of the admin socket, with all rights: `status`, `json sessions`,
    /// `events` and the rest, a line each. It needs no admin socket, and ends with the pool's core.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn operate(&self) -> Result<UnixStream, CallError> {
        let socket = answer::operator(self.shared.call(|request| ToPool::Operate { request }).await?)?;
        let socket = std::os::unix::net::UnixStream::from(socket);
        let connected = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
        connected.map_err(|error| CallError::Unreadable(error.to_string()))
    }
}

impl Shared {
    async fn get(
        self: &Arc<Self>,
        root: &Path,
        options: AppOptions,
        label: Option<String>,
    ) -> Result<Session, GetError> {
        if !self.line.owner.is_here() {
            return Err(GetError::Forked);
        }
        let app_root = answer::normalised(root).map_err(GetError::Invalid)?;
        let options = Box::new(options);
        let label = label.map(answer::label);
        let mut question = self.ask(|request| ToPool::Get { request, app_root, options, key: None, label })?;
        let mut reconnected = None;
        let mut tries = TRIES;
        loop {
            let (reply, get) = question.answer().await;
            tries -= 1;
            let mut granted = match answer::judge(reply) {
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
        let mut question = self.ask(message).map_err(|error| CallError::Invalid(error.to_string()))?;
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
            Ok(door) => carry::open(&door).await,
            Err(error) => Err(error),
        };
        self.line.with(|books| match opened {
            Ok(socket) => self.plug_in(books, socket),
            Err(error) => books.give_up(&Gone::from(error)),
        });
    }

    fn plug_in(self: &Arc<Self>, books: &mut Books<Plugged>, socket: Local<UnixStream>) {
        let epoch = books.machine.epoch();
        books.plug_in(Plugged::new(socket, self, epoch));
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
