//! Clients' connections.

use super::forward::Front;
use super::headers::Peer;
use super::interim::{Interim, Line};
use super::listen::{Listener, Stream};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From the first moment of a connection, or the end of an answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a kept connection may stay open for one more request when the server is to end: who is just sending one
/// would else see the connection end without an answer.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// Connections that are still taken from a listener that is to be closed: more don't wait there, as a rule.
const BACKLOG: usize = 128;
/// After a connection could not be accepted: descriptors come back when others end.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until told to drain.
#[derive(Debug)]
pub(crate) struct Accepting {
    front: Arc<Front>,
    /// Connections at once, of all listeners.
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    drain: Drain,
}

/// The end, in two steps.
#[derive(Clone, Debug, Default)]
struct Drain {
    /// No connection is accepted any more, and each answer is the last of its connection.
    last: CancellationToken,
    /// Connections without a request are closed.
    close: CancellationToken,
}

impl Accepting {
    pub(crate) fn new(front: Arc<Front>, connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        Self { front, room, tasks: TaskTracker::new(), drain: Drain::default() }
    }

    pub(crate) fn from(&self, listener: Listener) {
        let (front, room, tasks) = (self.front.clone(), self.room.clone(), self.tasks.clone());
        let drain = self.drain.clone();
        self.tasks.spawn(async move {
            let take = |(stream, peer), place| {
                let (front, drain) = (front.clone(), drain.clone());
                tasks.spawn(async move {
                    match stream {
                        Stream::Tcp(stream) => serve(stream, peer, front, drain).await,
                        Stream::Unix(stream) => serve(stream, peer, front, drain).await,
                    }
                    drop::<OwnedSemaphorePermit>(place);
                });
            };
            let taking = Taking { listener: &listener, room: &room };
            tokio::select! {
                () = taking.for_ever(take) => {}
                () = drain.last.cancelled() => {}
            }
            // Their clients are connected already.
            for _ in 0..BACKLOG {
                let Ok(place) = room.clone().try_acquire_owned() else { return };
                match listener.accept_now() {
                    Ok(accepted) => take(accepted, place),
                    Err(_) => return,
                }
            }
        });
    }

    /// Stops accepting, and lets open requests finish, but no longer than `time`.
    pub(crate) async fn drain(self, time: Duration) {
        self.drain.last.cancel();
        self.tasks.close();
        let switched = &self.front.switched;
        switched.close();
        let mut finished = pin!(async {
            self.tasks.wait().await;
            switched.wait().await;
        });
        let until = Instant::now() + time;
        if timeout(LAST_REQUEST.min(time / 2), finished.as_mut()).await.is_err() {
            self.drain.close.cancel();
            if timeout_at(until.min(Instant::now() + PAUSE), finished.as_mut()).await.is_err() {
                tracing::info!("open requests have {} s to finish; a second signal ends at once", time.as_secs());
                if timeout_at(until, finished).await.is_err() {
                    tracing::warn!("open requests were cut off");
                }
            }
        }
        self.front.cut.cancel();
        self.tasks.wait().await;
        switched.wait().await;
    }
}

/// Connections of a listener, as long as there is room for them.
#[derive(Debug)]
pub(crate) struct Taking<'a> {
    pub(crate) listener: &'a Listener,
    pub(crate) room: &'a Arc<Semaphore>,
}

impl Taking<'_> {
    /// Gives each connection, and its place, to `take`.
    pub(crate) async fn for_ever(&self, take: impl Fn((Stream, Peer), OwnedSemaphorePermit)) {
        let mut failing = false;
        loop {
            // The rest waits in the kernel's queue.
            let Ok(place) = self.room.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok(accepted) => {
                    failing = false;
                    take(accepted, place);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!("no connection can be accepted: {error}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn serve<S>(stream: S, peer: Peer, front: Arc<Front>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = front.cut.clone();
    let interim = Interim::new();
    let line = Line::new(stream, interim.clone());
    let last = drain.last.clone();
    let service = service_fn(move |request| {
        let (front, interim, last) = (front.clone(), interim.clone(), last.clone());
        async move {
            let mut answer = front.answer(peer, &interim, request).await;
            if last.is_cancelled() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = drain.close.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    tokio::select! {
        served = served => if let Err(error) = served {
            // A client that left, or spoke no HTTP: it was told what could be told.
            tracing::debug!(?peer, "a connection ended: {error}");
        },
        () = cut.cancelled() => {}
    }
}
