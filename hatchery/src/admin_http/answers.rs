//! What is answered, with the headers that keep other sites' pages away from it.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

pub(super) type Answer = Response<Either<Full<Bytes>, Flow>>;

/// Nothing but what this server itself sends is shown or run, and nothing is run that stands in a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const LINES: &str = "application/x-ndjson";

/// A body that goes on: what is sent into its other end.
#[derive(Debug)]
pub(super) struct Flow(mpsc::Receiver<Bytes>);

impl Body for Flow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Either<Full<Bytes>, Flow>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

pub(super) fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    answer(status, kind, Either::Left(Full::new(body.into())))
}

/// A sentence, for whoever asks.
pub(super) fn text(status: StatusCode, sentence: &str) -> Answer {
    whole(status, TEXT, format!("{sentence}\n"))
}

/// A line of JSON.
pub(super) fn json(status: StatusCode, line: impl Into<Bytes>) -> Answer {
    whole(status, JSON, line)
}

/// Why something was not done, for the page's script.
pub(super) fn failed(status: StatusCode, why: &str) -> Answer {
    json(status, serde_json::json!({ "ok": false, "error": why }).to_string())
}

/// Lines that go on.
pub(super) fn lines(flow: mpsc::Receiver<Bytes>) -> Answer {
    answer(StatusCode::OK, LINES, Either::Right(Flow(flow)))
}

/// The address is right, but not for this.
pub(super) fn only(method: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {method} is answered here"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    answer
}
