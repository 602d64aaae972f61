//! One HTTP exchange over one session, and what becomes of the session.
//!
//! The connection to the worker is driven by whoever waits for the answer, so nothing outlives it: an answer
//! that is dropped before its end drops the session, which abandons it.

use super::fastcgi::Odd;
use super::upload::{Source, Upload};
use super::wire::{Speech, Wire};
use bytes::Bytes;
use hatchery_pool_client::{Ended, Session};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::http::response;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep};

/// How long the pool has to say why a session ended without an answer, and how often it is looked for.
const REASON: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(2);

/// What a worker made of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Response<WorkerBody>),
    /// It changed the protocol: what follows on the session is not HTTP. `early` came along with the answer.
    Switched {
        head: response::Parts,
        session: Session,
        early: Bytes,
    },
}

/// There is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: hyper::Error,
    /// A byte of the request may have reached the worker.
    pub(crate) sent: bool,
    /// A byte of an answer came.
    pub(crate) received: bool,
    /// The pool ended the session.
    pub(crate) ended: Option<Ended>,
    /// What a FastCGI worker made of it.
    pub(crate) odd: Option<Odd>,
}

/// Sends `request`, whose body is one of `source`'s, to a worker of the app at `root`, and waits for the head of
/// the answer.
pub(crate) async fn send(
    session: Session,
    root: &Arc<PathBuf>,
    request: Request<Upload>,
    speech: Speech,
    source: &Source,
) -> Result<Outcome, Failure> {
    let pid = session.pid();
    let wire = TokioIo::new(Wire::new(session, speech));
    let (sender, connection) = match http1::handshake(wire).await {
        Ok(both) => both,
        Err(error) => return Err(Failure { error, sent: false, received: false, ended: None, odd: None }),
    };
    let mut exchange = Exchange { connection, sender, over: false };
    let answer = {
        let mut answer = pin!(exchange.sender.send_request(request));
        poll_fn(|context| {
            let _ = exchange.drive(context);
            answer.as_mut().poll(context)
        })
        .await
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let wire = exchange.connection.into_parts().io.into_inner();
            let (sent, received, odd) = (wire.sent, wire.received, wire.odd().cloned());
            let session = wire.into_session();
            let ended = if received || source.has_failed() { session.ended() } else { reason(&session).await };
            return Err(Failure { error, sent, received, ended, odd });
        }
    };
    let (head, incoming) = answer.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        poll_fn(|context| exchange.drive(context)).await;
        let parts = exchange.connection.into_parts();
        return Ok(Outcome::Switched { head, session: parts.io.into_inner().into_session(), early: parts.read_buf });
    }
    let mut body = WorkerBody { incoming, driver: Some(Driver::of(exchange, source)), root: root.clone(), pid };
    if body.incoming.is_end_stream() {
        poll_fn(|context| {
            body.complete(context);
            Poll::Ready(())
        })
        .await;
    }
    Ok(Outcome::Answer(Response::from_parts(head, body)))
}

/// hyper's sentence, and what caused it.
pub(crate) fn sentence(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Why a session ended before a byte of an answer came. The pool's word is on its way then, if it has one: a worker
/// that closes connections as it likes costs this time, and a request is not sent again that had its time.
async fn reason(session: &Session) -> Option<Ended> {
    let until = Instant::now() + REASON;
    loop {
        match session.ended() {
            None if Instant::now() < until => sleep(LOOK).await,
            ended => return ended,
        }
    }
}

/// The body of a worker's answer. It holds the session until the answer is complete.
#[derive(Debug)]
pub(crate) struct WorkerBody {
    incoming: Incoming,
    /// `None` once the answer is complete, or broken.
    driver: Option<Driver>,
    /// Of whom is told when it breaks.
    root: Arc<PathBuf>,
    pid: i32,
}

impl WorkerBody {
    fn complete(&mut self, context: &mut Context<'_>) {
        match self.driver.take() {
            Some(Driver::Here(exchange)) => exchange.settle(context),
            Some(Driver::Apart(complete)) => drop(complete.send(())),
            None => {}
        }
    }
}

impl Body for WorkerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.incoming).poll_frame(context);
        if frame.is_pending()
            && let Some(Driver::Here(exchange)) = &mut this.driver
        {
            let _ = exchange.drive(context);
            frame = Pin::new(&mut this.incoming).poll_frame(context);
        }
        let frame = ready!(frame);
        match &frame {
            Some(Ok(_)) if !this.incoming.is_end_stream() => {}
            // The session's part is over, though the client's may last: a length that is reached is not asked about again.
            Some(Ok(_)) | None => this.complete(context),
            Some(Err(error)) => {
                let ended = this.driver.take().and_then(Driver::ended).map_or("", |why| match why {
                    Ended::RequestTimedOut => " (the session had its max_request_time)",
                    _ => "",
                });
                let app = this.root.display();
                tracing::error!(%app, pid = this.pid, "a worker's answer broke off: {}{ended}", sentence(error));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.driver.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Who drives the connection while the answer's body flows.
#[derive(Debug)]
enum Driver {
    /// The body itself.
    Here(Box<Exchange>),
    /// A task, because the request still flows too, and must not wait for a client that doesn't read. It is told
    /// when the answer is complete; dropping this abandons the session.
    Apart(oneshot::Sender<()>),
}

impl Driver {
    /// Why the pool ended the session, as far as that is known here. Abandons it.
    fn ended(self) -> Option<Ended> {
        match self {
            Self::Here(exchange) => exchange.connection.into_parts().io.into_inner().session().ended(),
            Self::Apart(_) => None,
        }
    }

    fn of(exchange: Exchange, source: &Source) -> Self {
        let exchange = Box::new(exchange);
        if source.is_done() {
            return Self::Here(exchange);
        }
        let (complete, told) = oneshot::channel();
        tokio::spawn(exchange.drive_apart(told));
        Self::Apart(complete)
    }
}

#[derive(Debug)]
struct Exchange {
    connection: Connection<TokioIo<Wire>, Upload>,
    sender: SendRequest<Upload>,
    over: bool,
}

impl Exchange {
    /// Ready when the connection carries no more messages. Errors reach whoever waits for the answer.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.over {
            self.over = self.connection.poll_without_shutdown(context).is_ready();
        }
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn drive_apart(mut self: Box<Self>, mut told: oneshot::Receiver<()>) {
        let complete = poll_fn(|context| {
            let _ = self.drive(context);
            Pin::new(&mut told).poll(context)
        });
        if complete.await.is_ok() {
            let mut exchange = Some(self);
            poll_fn(|context| Poll::Ready(exchange.take().map(|exchange| exchange.settle(context)))).await;
        }
    }

    /// The exchange is complete: ends the session, and parks the connection if it can carry another one.
    fn settle(mut self: Box<Self>, context: &mut Context<'_>) {
        // Idle means that both messages were framed, sent and read to their ends, and neither side wants to close.
        let idle = self.drive(context).is_pending() && self.sender.is_ready();
        let Self { mut connection, sender, .. } = *self;
        drop(sender);
        let parked = idle && matches!(connection.poll_without_shutdown(context), Poll::Ready(Ok(())));
        let parts = connection.into_parts();
        let keep = parked && parts.read_buf.is_empty();
        let mut wire = parts.io.into_inner();
        let mut told = Box::pin(async move {
            // Until then the worker is busy with this request, whose session it is.
            if !wire.is_over() && poll_fn(|context| wire.poll_over(context)).await.is_err() {
                return Ok(());
            }
            let keep = keep && wire.is_clean();
            let session = wire.into_session();
            if keep { session.keep().await } else { session.finish().await }
        });
        if told.as_mut().poll(context).is_pending() {
            tokio::spawn(told);
        }
    }
}
