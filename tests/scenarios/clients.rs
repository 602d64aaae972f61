//! Clients, each with a connection and a runtime of its own, so that one of them can die; and what they asked.

use crate::support::PATIENCE;
use hatchery_pool::scenario::{Client as Number, Why};
use hatchery_pool_client::{Client, Ended, GetError, PoolServer, Refusal, Scope, Session, Status};
use rustix::net::{RecvFlags, recv};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) struct Connection {
    runtime: Runtime,
    client: Client,
}

impl Connection {
    pub(crate) fn new(server: &PoolServer) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let client = runtime.block_on(server.connect()).map_err(|error| error.to_string())?;
        Ok(Self { runtime, client })
    }

    /// The answer to a question. What was said on this connection before has been heard then.
    pub(crate) fn ask<T, E: ToString>(&self, question: impl AsyncFnOnce(&Client) -> Result<T, E>) -> Result<T, String> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, question(&self.client)).await });
        answer.map_err(|_| "the pool doesn't answer".to_owned())?.map_err(|error| error.to_string())
    }

    pub(crate) fn status(&self) -> Result<Status, String> {
        self.ask(Client::status)
    }

    /// A `get` that the pool has heard of when this returns.
    pub(crate) fn get(&self, number: Number, root: &Path) -> Result<Get, String> {
        let answer = Arc::new(Mutex::new(Answer::None));
        let (client, theirs, path) = (self.client.clone(), Arc::clone(&answer), root.to_owned());
        let mut getting = Box::pin(async move {
            let session = client.get(&path).await;
            // Whoever looks on must know that the pool has answered before the worker has.
            *lock(&theirs) = Answer::Coming;
            let answer = match session {
                Ok(session) => Answer::granted(session, &path).await,
                Err(error) => Answer::refused(&error),
            };
            *lock(&theirs) = answer;
        });
        let at_once = self.runtime.block_on(poll_fn(|context| Poll::Ready(getting.as_mut().poll(context).is_ready())));
        let task = if at_once { self.runtime.spawn(async {}) } else { self.runtime.spawn(getting) };
        self.status()?;
        Ok(Get { client: number, root: root.to_owned(), answer, task, parked: None })
    }

    /// The worker computes for this session until it finds that word.
    pub(crate) fn busy_until(&self, session: &mut Session, word: &str) -> Result<(), String> {
        let request = format!("GET /until?{word} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.runtime.block_on(session.write_all(request.as_bytes())).map_err(|error| error.to_string())
    }

    pub(crate) fn finish(&self, session: Session) -> Result<(), String> {
        self.ask(async |_| session.finish().await)
    }

    pub(crate) fn keep(&self, session: Session) -> Result<(), String> {
        self.ask(async |_| session.keep().await)
    }

    pub(crate) fn cancel(&self, get: &mut Get) {
        get.task.abort();
        // That it was cancelled is what was wanted.
        let _ = self.runtime.block_on(&mut get.task);
    }

    /// Without a word: the channel ends with whoever reads it.
    pub(crate) fn die(self) {
        self.runtime.shutdown_timeout(PATIENCE);
    }
}

/// What became of a `get`.
pub(crate) enum Answer {
    None,
    /// The pool has answered, the worker has not.
    Coming,
    Granted(Granted),
    /// And when the next try may be.
    Refused(Why, Option<Duration>),
    /// What must not happen.
    Wrong(String),
}

pub(crate) struct Granted {
    /// Until it is closed.
    pub(crate) session: Option<Session>,
    pub(crate) pid: i32,
    pub(crate) reused: bool,
    /// The socket's number in the system.
    pub(crate) socket: u64,
}

pub(crate) struct Get {
    pub(crate) client: Number,
    pub(crate) root: PathBuf,
    answer: Arc<Mutex<Answer>>,
    task: JoinHandle<()>,
    /// A copy of the connection that the session was kept on.
    pub(crate) parked: Option<OwnedFd>,
}

impl Get {
    pub(crate) fn answer(&self) -> MutexGuard<'_, Answer> {
        lock(&self.answer)
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.task.is_finished() && matches!(*self.answer(), Answer::None)
    }

    pub(crate) fn granted<T>(&self, look: impl FnOnce(&mut Granted) -> T) -> Option<T> {
        match &mut *self.answer() {
            Answer::Granted(granted) => Some(look(granted)),
            _ => None,
        }
    }

    pub(crate) fn take_session(&self) -> Option<Session> {
        self.granted(|granted| granted.session.take()).flatten()
    }

    /// Why the pool ended the session. Of a parked connection only that it has ended can be seen.
    pub(crate) fn ended(&self) -> Option<Ended> {
        if let Some(parked) = &self.parked {
            let read = recv(parked, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            return matches!(read, Ok((_, 0))).then_some(Ended::LeaseEnded);
        }
        self.granted(|granted| granted.session.as_ref().and_then(Session::ended)).flatten()
    }
}

impl Answer {
    /// A session is one once its app has answered on it.
    async fn granted(mut session: Session, root: &Path) -> Self {
        let socket = match rustix::fs::fstat(&session) {
            Ok(stat) => stat.st_ino,
            Err(error) => return Self::Wrong(format!("its socket: {error}")),
        };
        let (pid, reused) = (session.pid(), session.is_reused());
        for (question, expected) in
            [("/pid", pid.to_string()), ("/env?HATCHERY_ROOT", root.to_string_lossy().into_owned())]
        {
            match tokio::time::timeout(PATIENCE, exchange(&mut session, question)).await {
                Ok(Ok(answer)) if answer == expected => {}
                Ok(Ok(answer)) => return Self::Wrong(format!("{question} is {answer} and not {expected}")),
                Ok(Err(error)) => return Self::Wrong(format!("{question}: {error}; {:?}", session.ended())),
                Err(_) => return Self::Wrong(format!("{question}: the worker doesn't answer")),
            }
        }
        Self::Granted(Granted { session: Some(session), pid, reused, socket })
    }

    fn refused(error: &GetError) -> Self {
        let retry_after = match error {
            GetError::Refused(Refusal::Disabled { retry_after, .. }) => *retry_after,
            _ => None,
        };
        let why = match error {
            GetError::SpawnFailed(_) => Why::SpawnFailed,
            GetError::Refused(Refusal::QueueFull { scope: Scope::App, .. }) => Why::QueueFull,
            GetError::Refused(Refusal::QueueFull { scope: Scope::Pool, .. }) => Why::PoolQueueFull,
            GetError::Refused(Refusal::Disabled { .. }) => Why::Disabled,
            GetError::Refused(Refusal::Stopped) => Why::Stopped,
            GetError::Refused(Refusal::Overloaded) => Why::Overloaded,
            GetError::Refused(Refusal::ShuttingDown) => Why::ShuttingDown,
            GetError::Refused(Refusal::TimedOut { .. }) => Why::TimedOut,
            GetError::Refused(Refusal::NotAllowed(_)) => Why::NotAllowed,
            other => return Self::Wrong(other.to_string()),
        };
        Self::Refused(why, retry_after)
    }
}

/// A request and its answer, on a connection that stays.
async fn exchange(session: &mut Session, question: &str) -> std::io::Result<String> {
    let request = format!("GET {question} HTTP/1.1\r\nHost: test\r\n\r\n");
    session.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if length.is_some_and(|length| length == body.len().to_string()) {
                return Ok(body.to_owned());
            }
        }
        if session.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().expect("nobody panics while holding it")
}
