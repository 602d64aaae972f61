//! The application that is served when there is none: a worker like any other, inside this executable.

use crate::complain;
use crate::serve::pages::{HEAD, STYLE};
use bytes::Bytes;
use hatchery_protocol::report::escape;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// How long a body is that one `/stream` sends by itself.
const CHUNKS: u32 = 10;

pub(crate) fn run() -> ExitCode {
    let Some(listener) = inherited() else {
        return complain("the demo app is started by a pool; try `hatchery serve`");
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, serve(listener)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(format_args!("the demo app can't serve: {error}")),
    }
}

/// Descriptor 3, if whoever started this process says so.
fn inherited() -> Option<UnixListener> {
    let said = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if said("LISTEN_PID") != Some(std::process::id()) || said("LISTEN_FDS").unwrap_or(0) == 0 {
        return None;
    }
    // SAFETY: by the LISTEN_FDS contract descriptor 3 was left to this process, and nothing else here has opened or uses it.
    let listener = unsafe { OwnedFd::from_raw_fd(3) };
    Some(UnixListener::from(listener))
}

/// Answers until TERM, then until the open requests are answered.
async fn serve(listener: UnixListener) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let mut term = signal(SignalKind::terminate())?;
    let (connections, leave, served) = (TaskTracker::new(), CancellationToken::new(), Rc::new(Cell::new(0)));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = term.recv() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (leave, served) = (leave.clone(), served.clone());
                connections.spawn_local(connection(TokioIo::new(stream), leave, served));
            }
            // No descriptor is free: one will be.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    leave.cancel();
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(io: TokioIo<tokio::net::UnixStream>, leave: CancellationToken, served: Rc<Cell<u64>>) {
    let service = service_fn(|request| {
        // The question whether this worker is ready is nobody's request.
        let asked = request.uri().path() != "*";
        served.set(served.get() + u64::from(asked));
        answer(request, served.get())
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(io, service));
    // Clients come and go as they like: how one left is nobody's news.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leave.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>, served: u64) -> Result<Answer, Infallible> {
    let asked = |name: &str| -> Option<u64> {
        let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
    };
    let path = request.uri().path();
    // Behind a path prefix, which is passed on unchanged, the pages are the same.
    let prefix = request.headers().get("x-forwarded-prefix").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = path.strip_prefix(prefix).unwrap_or(path);
    Ok(match path {
        _ if *request.method() == Method::OPTIONS && path == "*" => text(StatusCode::OK, String::new()),
        "" | "/" => html(welcome(served, prefix)),
        "/hello" => text(StatusCode::OK, format!("Hello from worker {}\n", std::process::id())),
        "/echo" => return Ok(echo(request).await),
        "/sleep" => {
            let length = Duration::from_millis(asked("ms").unwrap_or(1000));
            tokio::time::sleep(length).await;
            text(StatusCode::OK, format!("Slept {} ms in worker {}\n", length.as_millis(), std::process::id()))
        }
        "/stream" => {
            let chunks = asked("chunks").and_then(|n| n.try_into().ok()).unwrap_or(CHUNKS);
            let pause = Duration::from_millis(asked("ms").unwrap_or(300));
            plain(StatusCode::OK, Chunks { next: 1, last: chunks, pause, timer: None }.boxed())
        }
        "/exit" => std::process::exit(asked("status").and_then(|status| status.try_into().ok()).unwrap_or(1)),
        _ => text(StatusCode::NOT_FOUND, format!("The demo app has no page {path}\n")),
    })
}

/// The request as it arrived here.
async fn echo(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut shown = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        let _ = writeln!(shown, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    shown.push('\n');
    let first = Full::new(Bytes::from(shown)).map_err(|never| match never {});
    plain(StatusCode::OK, Both { first: Some(first), second: body }.boxed())
}

fn welcome(served: u64, prefix: &str) -> String {
    let pid = std::process::id();
    let environment = escape(&std::env::var("HATCHERY_ENV").unwrap_or_else(|_| "unnamed".to_owned()));
    let prefix = escape(prefix);
    let links = [
        ("hello", "one line"),
        ("echo", "your request, as an application sees it"),
        ("sleep?ms=2000", "an answer that takes its time: open several at once, and more workers start"),
        ("stream", "an answer that comes in pieces"),
        ("exit?status=1", "the worker ends without an answer; the next request gets another one"),
    ];
    let links = links.iter().fold(String::new(), |mut list, (link, what)| {
        let _ = write!(list, "<li><a href=\"{prefix}/{link}\">/{link}</a>: {what}</li>");
        list
    });
    format!(
        "{HEAD}<title>Hatchery works</title>{STYLE}\
         <h1>Hatchery works</h1>\
         <p>This page comes from the demo app, in a process of its own that a pool has started for you.</p>\
         <dl><dt>Worker process</dt><dd>{pid}</dd><dt>Requests served</dt><dd>{served}</dd>\
         <dt>Environment</dt><dd>{environment}</dd></dl>\
         <h2>Try</h2><ul>{links}</ul>\
         <h2>Serve your own</h2>\
         <p>Any program that answers HTTP on descriptor 3 is an application. Say how it starts in a file \
         <code>hatchery.toml</code> in its folder:</p>\
         <pre>command = [\"python3\", \"server.py\"]</pre>\
         <p>Then <code>hatchery serve FOLDER</code>. To see what runs: <code>hatchery status</code>.</p></html>\n"
    )
}

fn text(status: StatusCode, text: String) -> Answer {
    plain(status, Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
}

fn plain(status: StatusCode, body: BoxBody<Bytes, hyper::Error>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn html(page: String) -> Answer {
    let mut answer = text(StatusCode::OK, page);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

/// A line every `pause`.
struct Chunks {
    next: u32,
    last: u32,
    pause: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.next > self.last {
            return Poll::Ready(None);
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(context));
        }
        let line = format!("chunk {} of {}\n", self.next, self.last);
        self.next += 1;
        self.timer = Some(Box::pin(tokio::time::sleep(self.pause)));
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}

/// One body after the other.
struct Both<A, B> {
    first: Option<A>,
    second: B,
}

impl<A, B> Body for Both<A, B>
where
    A: Body<Data = Bytes, Error = hyper::Error> + Unpin,
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = &mut self.first {
            match ready!(Pin::new(first).poll_frame(context)) {
                None => self.first = None,
                frame => return Poll::Ready(frame),
            }
        }
        Pin::new(&mut self.second).poll_frame(context)
    }
}
