//! One request: to which app, over which session, and what is answered when that fails.

use super::attempts::Attempts;
use super::exchange::{self, Failure, Outcome, WorkerBody};
use super::headers::{self, Peer};
use super::interim::Interim;
use super::pages::{Page, wants_html};
use super::pool::Pool;
use super::reload::Routes;
use super::router::{Route, Router};
use super::switch::Switched;
use super::upload::Source;
use bytes::Bytes;
use hatchery_pool_client::{Ended, GetError, Refusal, Session, SessionProtocol};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An answer's body: a worker's, or a page of our own.
pub(crate) type Answer = Response<Either<WorkerBody, Full<Bytes>>>;

/// How long a client should wait where the pool is away for a moment, or out of descriptors.
const MOMENT: Duration = Duration::from_secs(5);
/// The same after a restart: the next worker is there, or starts.
const SOON: Duration = Duration::from_secs(1);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) routes: Routes,
    pub(crate) pool: Pool,
    /// Connections that are no HTTP any more.
    pub(crate) switched: TaskTracker,
    /// The end of the time for open requests.
    pub(crate) cut: CancellationToken,
}

impl Front {
    pub(crate) async fn answer(&self, peer: Peer, interim: &Interim, mut request: Request<Incoming>) -> Answer {
        let begun = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        let html = wants_html(request.headers());
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let router = self.routes.now();
        let answered = async {
            let asked = Asked::of(&head, &router)?;
            let source = Source::of(body).await.map_err(|_| unfinished())?;
            match self.exchange(peer, interim, &head, &asked, &source).await? {
                Outcome::Answer(mut answer) => {
                    *answer.version_mut() = Version::HTTP_11;
                    headers::for_client(answer.headers_mut(), false);
                    Ok(answer.map(Either::Left))
                }
                Outcome::Switched { mut head, session, early } => {
                    headers::for_client(&mut head.headers, true);
                    let switched = Switched { session, early };
                    self.switched.spawn(switched.carry(on_upgrade, self.cut.clone()));
                    Ok(Response::from_parts(head, Either::Right(Full::default())))
                }
            }
        };
        let answer = answered.await.unwrap_or_else(|page: Page| page.answer(html).map(Either::Right));
        interim.end();
        if let Some(begun) = begun {
            let (status, ms) = (answer.status().as_u16(), begun.elapsed().as_secs_f64() * 1000.0);
            tracing::debug!(method = %head.method, path = head.uri.path(), status, ms, "answered");
        }
        answer
    }

    /// One attempt, and further ones where the earlier can't have done any harm.
    async fn exchange(
        &self,
        peer: Peer,
        interim: &Interim,
        head: &request::Parts,
        asked: &Asked<'_>,
        source: &Source,
    ) -> Result<Outcome, Page> {
        let upgrade = headers::upgrade_wanted(head);
        let mut attempts = Attempts::default();
        loop {
            let session = match self.pool.get(&asked.route.root).await {
                Ok(session) => session,
                Err(error) if attempts.may_start_another(&error) => continue,
                Err(error) => return Err(refused(asked, &error)),
            };
            let pid = session.pid();
            check_protocol(&session).inspect_err(|page| log(asked, pid, page, "its protocol is not spoken here"))?;
            let Some(body) = source.body() else {
                return Err(Page::new(StatusCode::BAD_GATEWAY, "Bad gateway", "The request could not be sent again."));
            };
            let mut request = Request::new(body);
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = asked.uri.clone();
            *request.headers_mut() =
                headers::for_worker(head, asked.host.as_ref(), &asked.route.prefix, peer, upgrade.as_ref());
            let (sends, version) = (interim.clone(), head.version);
            hyper::ext::on_informational(&mut request, move |answer| {
                sends.send(version, answer.status(), answer.headers());
            });
            let failure = match exchange::send(session, &asked.route.root, request, source).await {
                Ok(Outcome::Switched { .. }) if upgrade.is_none() => {
                    let page = bad_gateway("The application changed the protocol without being asked to.");
                    log(asked, pid, &page, "it answered 101 to a request without an upgrade");
                    return Err(page);
                }
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            };
            if may_repeat(&head.method, &failure, source)
                && let Some(pause) = attempts.after_failure_of(pid)
            {
                tracing::debug!(app = %asked.route.root.display(), pid, "a worker was gone before it answered; trying another");
                tokio::time::sleep(pause).await;
                continue;
            }
            let page = failed(&failure, source);
            // Who left can't be told, and it was not the application's fault.
            if !source.has_failed() {
                log(asked, pid, &page, &because(&failure));
            }
            return Err(page);
        }
    }
}

fn refused(asked: &Asked<'_>, error: &GetError) -> Page {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let app = asked.route.root.display();
    tracing::error!(%app, status = status.as_u16(), path = asked.uri.path(), "{error}");
    let development = asked.route.development;
    if let GetError::SpawnFailed(report) = error
        && development
    {
        return Page::document(status, report.html(), report.to_string());
    }
    let (title, text) = match error {
        GetError::SpawnFailed(_) => {
            ("The application could not be started", "Its operator finds the reason in the log.".to_owned())
        }
        GetError::Refused(refusal) => refusal_text(refusal, development),
        GetError::PoolGone(_) | GetError::OutOfDescriptors => (
            "Temporarily unavailable",
            "The server is being restarted or overloaded; try again in a moment.".to_owned(),
        ),
        _ => ("Internal error", "The request could not be passed on; the log says why.".to_owned()),
    };
    let moment = match error {
        GetError::PoolGone(_) | GetError::OutOfDescriptors | GetError::Refused(Refusal::Overloaded) => Some(MOMENT),
        _ => None,
    };
    Page::new(status, title, text).retry_after(error.retry_after().or(moment))
}

/// What a refusal tells the world; the operator's part of it only where the operator is the reader.
fn refusal_text(refusal: &Refusal, development: bool) -> (&'static str, String) {
    if let Refusal::Disabled { why, .. } = refusal {
        // The operator's own words, or how often it failed: nothing that an application printed.
        return ("Temporarily unavailable", format!("This application is disabled at the moment: {why}."));
    }
    let (title, text) = match refusal {
        Refusal::QueueFull { .. } => ("Too many requests at once", "Many are waiting already; try again in a moment."),
        Refusal::Stopped => ("Stopped", "This application is stopped."),
        Refusal::TimedOut { .. } => ("It takes too long", "No worker became free in time; try again in a moment."),
        Refusal::Overloaded => ("Overloaded", "The server has no room for this request; try again in a moment."),
        Refusal::ShuttingDown => ("Shutting down", "The server is about to stop."),
        Refusal::NotAllowed(_) => ("Not allowed", "This application may not be served like this."),
        _ => ("Internal error", "The request could not be passed on; the log says why."),
    };
    (title, if development { format!("{text} ({refusal})") } else { text.to_owned() })
}

/// Where a request goes.
struct Asked<'a> {
    route: &'a Route,
    /// As the worker sees it: path and query alone, or `*`.
    uri: Uri,
    host: Option<HeaderValue>,
    method: &'a Method,
}

impl<'a> Asked<'a> {
    fn of(head: &'a request::Parts, router: &'a Router) -> Result<Self, Page> {
        if head.method == Method::CONNECT {
            return Err(Page::new(StatusCode::NOT_IMPLEMENTED, "Not implemented", "This server is no forward proxy."));
        }
        let mut named = head.headers.get_all(header::HOST).iter();
        let host = match (head.uri.authority(), named.next(), named.next()) {
            (_, _, Some(_)) => return Err(Page::bad_request("The request has more than one Host.")),
            // An absolute address overrules Host.
            (Some(authority), _, None) => HeaderValue::try_from(authority.as_str()).ok(),
            (None, Some(host), None) => Some(host.clone()),
            (None, None, None) if head.version >= Version::HTTP_11 => {
                return Err(Page::bad_request("The request has no Host."));
            }
            (None, None, None) => None,
        };
        let path = match head.uri.path_and_query() {
            Some(path) => path.clone(),
            None if head.uri.scheme().is_some() => PathAndQuery::from_static("/"),
            None => return Err(Page::bad_request("The request has no path.")),
        };
        let shown = host.as_ref().map(HeaderValue::to_str).transpose();
        let shown = shown.map_err(|_| Page::bad_request("The Host of the request is no name."))?;
        let route = router.find(shown, path.path()).ok_or_else(Page::not_found)?;
        Ok(Self { route, uri: Uri::from(path), host, method: &head.method })
    }
}

fn check_protocol(session: &Session) -> Result<(), Page> {
    match session.protocol() {
        SessionProtocol::Http => Ok(()),
        other => {
            let name = format!("{other:?}").to_lowercase();
            Err(bad_gateway(format!("The application speaks the protocol {name}, which is not served yet.")))
        }
    }
}

/// Whether another worker may get the same request: none has seen it, or seeing it twice does no harm.
fn may_repeat(method: &Method, failure: &Failure, source: &Source) -> bool {
    let harmless = !failure.sent || method.is_idempotent();
    let wanted = matches!(failure.ended, None | Some(Ended::WorkerGone | Ended::LeaseEnded));
    harmless && wanted && !failure.received && !source.has_failed() && !source.is_begun()
}

fn failed(failure: &Failure, source: &Source) -> Page {
    if source.has_failed() {
        return unfinished();
    }
    match failure.ended {
        Some(Ended::RequestTimedOut) => {
            Page::new(StatusCode::GATEWAY_TIMEOUT, "It takes too long", "The application did not answer in time.")
        }
        Some(Ended::Restarted | Ended::Operator | Ended::PoolEnding | Ended::DrainTimedOut) => Page::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Interrupted",
            "The application was restarted or stopped while it worked on this request.",
        )
        .retry_after(Some(SOON)),
        _ if failure.received => bad_gateway("The application's answer is not HTTP."),
        _ => bad_gateway("The application ended the connection before it answered."),
    }
}

fn unfinished() -> Page {
    Page::new(StatusCode::REQUEST_TIMEOUT, "Request timeout", "The rest of the request did not come.")
}

fn bad_gateway(text: impl Into<String>) -> Page {
    Page::new(StatusCode::BAD_GATEWAY, "Bad gateway", text)
}

fn log(asked: &Asked<'_>, pid: i32, page: &Page, why: &str) {
    let (app, status) = (asked.route.root.display(), page.status().as_u16());
    tracing::error!(%app, pid, status, method = %asked.method, path = asked.uri.path(), "no answer from a worker: {why}");
}

/// What the pool said, else hyper's sentence and what caused it.
fn because(failure: &Failure) -> String {
    let said = match failure.ended {
        Some(Ended::RequestTimedOut) => "the session had its max_request_time",
        Some(Ended::DrainTimedOut) => "its worker had to leave, and the session its drain_timeout",
        Some(Ended::Restarted) => "its worker was restarted",
        Some(Ended::Operator) => "the operator ended the session",
        Some(Ended::PoolEnding) => "the pool ends",
        Some(Ended::WorkerGone) => "the worker died",
        _ => "",
    };
    let error = &failure.error;
    match (said, std::error::Error::source(error)) {
        ("", Some(source)) => format!("{error}: {source}"),
        ("", None) => error.to_string(),
        (said, _) => said.to_owned(),
    }
}
