//! A web server with a pool inside: every request goes to a worker of the application, bodies flow both ways.
//!
//! ```text
//! cargo run --example embed-hyper [-- ROOT [ADDRESS:PORT]]
//! ```

mod common;

use hatchery_pool_client::Client;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response, StatusCode, client, server, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use std::task::{Context, Poll, ready};
use std::{convert::Infallible, error::Error, future::poll_fn, path::Path, pin::Pin, time::Duration};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

type Answer = Response<Either<WorkerBody, Full<Bytes>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (builder, root) = common::pool_with(std::env::args().nth(1))?;
    let listener = TcpListener::bind(std::env::args().nth(2).unwrap_or("127.0.0.1:8080".into())).await?;
    let pool = builder.start()?;
    let client = pool.connect().await?;
    println!("serving {} on http://{}", root.display(), listener.local_addr()?);
    let (mut term, open) = (signal(SignalKind::terminate())?, GracefulShutdown::new());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => TokioIo::new(accepted?.0),
            _ = term.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let (client, root) = (client.clone(), root.clone());
        let service = service_fn(move |request| {
            let (client, root) = (client.clone(), root.clone());
            async move { Ok::<_, Infallible>(answer(&client, &root, request).await) }
        });
        tokio::spawn(open.watch(server::conn::http1::Builder::new().serve_connection(stream, service)));
    }
    // Requests that are open have their time, then the pool ends its workers.
    let _ = tokio::time::timeout(Duration::from_secs(10), open.shutdown()).await;
    tokio::task::spawn_blocking(|| pool.shutdown(Duration::from_secs(10))).await??;
    Ok(())
}

async fn answer(client: &Client, root: &Path, request: Request<Incoming>) -> Answer {
    exchange(client, root, request).await.unwrap_or_else(|(status, why)| {
        let mut answer = Response::new(Either::Right(Full::from(format!("{why}\n"))));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        answer
    })
}

async fn exchange(client: &Client, root: &Path, mut request: Request<Incoming>) -> Result<Answer, (u16, String)> {
    let session = client.get(root).await.map_err(|error| (error.http_status(), error.to_string()))?;
    let broken = |error: hyper::Error| (502, format!("the application gave no answer: {error}"));
    let (mut sender, mut connection) = client::conn::http1::handshake(TokioIo::new(session)).await.map_err(broken)?;
    let (complete, told) = oneshot::channel();
    tokio::spawn(async move {
        let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
        // A session that is dropped is abandoned: the worker may still compute for the browser that left.
        if told.await.is_ok() {
            let _ = connection.into_parts().io.into_inner().finish().await;
        }
    });
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let mut answer = sender.send_request(request).await.map_err(broken)?;
    answer.headers_mut().remove(CONNECTION);
    let mut complete = Some(complete);
    complete.take_if(|_| answer.body().is_end_stream()).map(|complete| complete.send(()));
    Ok(answer.map(|incoming| Either::Left(WorkerBody { incoming, complete })))
}

/// The worker's body, which tells when it is complete.
struct WorkerBody {
    incoming: Incoming,
    complete: Option<oneshot::Sender<()>>,
}

impl Body for WorkerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        let over = frame.is_none() || self.incoming.is_end_stream();
        self.complete.take_if(|_| over).map(|complete| complete.send(()));
        Poll::Ready(frame)
    }
}
