//! Clients' connections.

use super::forward::Front;
use super::headers::Peer;
use super::interim::{Interim, Line};
use super::listen::{Listener, Stream};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From the first moment of a connection, or the end of an answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After a connection could not be accepted: descriptors come back when others end.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until told to drain.
#[derive(Debug)]
pub(crate) struct Accepting {
    front: Arc<Front>,
    /// Connections at once, of all listeners.
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    drain: CancellationToken,
}

impl Accepting {
    pub(crate) fn new(front: Arc<Front>, connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        Self { front, room, tasks: TaskTracker::new(), drain: CancellationToken::new() }
    }

    pub(crate) fn from(&self, listener: Listener) {
        let (front, room, tasks) = (self.front.clone(), self.room.clone(), self.tasks.clone());
        let drain = self.drain.clone();
        self.tasks.spawn(async move {
            let accepting = accept(&listener, &front, &room, &tasks, &drain);
            tokio::select! {
                () = accepting => {}
                () = drain.cancelled() => {}
            }
        });
    }

    /// Stops accepting, and lets open requests finish, but no longer than `time`.
    pub(crate) async fn drain(self, time: Duration) {
        self.drain.cancel();
        self.tasks.close();
        let switched = &self.front.switched;
        switched.close();
        let mut finished = pin!(async {
            self.tasks.wait().await;
            switched.wait().await;
        });
        if tokio::time::timeout(PAUSE.min(time), finished.as_mut()).await.is_err() {
            tracing::info!("open requests have {} s to finish; a second signal ends at once", time.as_secs());
            if tokio::time::timeout(time.saturating_sub(PAUSE), finished).await.is_err() {
                tracing::warn!("open requests were cut off");
            }
        }
        self.front.cut.cancel();
        self.tasks.wait().await;
        switched.wait().await;
    }
}

async fn accept(
    listener: &Listener,
    front: &Arc<Front>,
    room: &Arc<Semaphore>,
    tasks: &TaskTracker,
    drain: &CancellationToken,
) {
    let mut failing = false;
    loop {
        // The rest waits in the kernel's queue.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let (front, drain) = (front.clone(), drain.clone());
                tasks.spawn(async move {
                    match stream {
                        Stream::Tcp(stream) => serve(stream, peer, front, drain).await,
                        Stream::Unix(stream) => serve(stream, peer, front, drain).await,
                    }
                    drop(place);
                });
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

async fn serve<S>(stream: S, peer: Peer, front: Arc<Front>, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = front.cut.clone();
    let interim = Interim::new();
    let line = Line::new(stream, interim.clone());
    let service = service_fn(move |request| {
        let (front, interim) = (front.clone(), interim.clone());
        async move { Ok::<_, Infallible>(front.answer(peer, &interim, request).await) }
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
            () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
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
