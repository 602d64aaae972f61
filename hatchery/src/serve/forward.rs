//! One request: to which app, over which session, and what is answered when that fails.

use super::attempts::Attempts;
use super::cgi::{Call, Length};
use super::exchange::{self, Failure, Outcome, WorkerBody};
use super::fastcgi::{Odd, Verdict};
use super::headers::{self, Peer};
use super::interim::Interim;
use super::log_line::Lines;
use super::marks;
use super::pages::{Document, Page, Reader};
use super::pieces::Pieces;
use super::pool::Pool;
use super::reload::Routes;
use super::router::{Route, Router};
use super::switch::Switched;
use super::tally::{Counted, Tally};
use super::telling::{self, Finder, Folders, Way};
use super::upload::{Source, Unspooled, Upload};
use super::wire::Speech;
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

/// An answer's body: a worker's, a page of our own, or a file of the application's.
pub(crate) type Answer = Response<Counted<Either<WorkerBody, Either<Full<Bytes>, Pieces>>>>;

/// How long a client should wait where the pool is away for a moment, or out of descriptors.
const MOMENT: Duration = Duration::from_secs(5);
/// The same after a restart: the next worker is there, or starts.
const SOON: Duration = Duration::from_secs(1);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) routes: Routes,
    pub(crate) pool: Pool,
    pub(crate) folders: Folders,
    pub(crate) tally: Tally,
    /// Connections that are no HTTP any more.
    pub(crate) switched: TaskTracker,
    /// The end of the time for open requests.
    pub(crate) cut: CancellationToken,
}

impl Front {
    pub(crate) async fn answer(&self, peer: Peer, interim: &Interim, mut request: Request<Incoming>) -> Answer {
        let begun = Instant::now();
        let reader = Reader::of(request.headers());
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let router = self.routes.now();
        let asked = Asked::of(&head, &router);
        let open = self.tally.of(asked.as_ref().ok().map(|asked| &asked.route.root)).begin(begun);
        let answered = async {
            let asked = asked?;
            let source = Source::of(body).await.map_err(|_| unfinished())?;
            let outcome = match self.exchange(peer, interim, &head, &asked, source).await? {
                Answered::Worker(outcome) => outcome,
                Answered::File(answer) => return Ok(answer.map(|file| Either::Right(Either::Right(file)))),
            };
            match outcome {
                Outcome::Answer(mut answer) => {
                    *answer.version_mut() = Version::HTTP_11;
                    headers::for_client(answer.headers_mut(), false);
                    Ok(answer.map(Either::Left))
                }
                Outcome::Switched { mut head, session, early } => {
                    headers::for_client(&mut head.headers, true);
                    let switched = Switched { session, early };
                    self.switched.spawn(switched.carry(on_upgrade, self.cut.clone()));
                    Ok(Response::from_parts(head, Either::Right(Either::Left(Full::default()))))
                }
            }
        };
        let answer = answered
            .await
            .unwrap_or_else(|page: Page| page.answer(reader).map(|page| Either::Right(Either::Left(page))));
        interim.end();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (status, ms) = (answer.status().as_u16(), begun.elapsed().as_secs_f64() * 1000.0);
            tracing::debug!(method = %head.method, path = head.uri.path(), status, ms, "answered");
        }
        Counted::answer(answer, open)
    }

    /// One attempt, and further ones where the earlier can't have done any harm.
    async fn exchange(
        &self,
        peer: Peer,
        interim: &Interim,
        head: &request::Parts,
        asked: &Asked<'_>,
        mut source: Source,
    ) -> Result<Answered, Page> {
        let upgrade = headers::upgrade_wanted(head);
        let mut call = asked.call(head, peer, upgrade.as_ref(), &source);
        let mut finder = Finder::default();
        let root = &asked.route.root;
        if let Some(file) = finder.look_ahead(&self.folders, root, &call).await? {
            return Ok(Answered::File(file));
        }
        let mut attempts = Attempts::default();
        let line = marks::line(&head.method, &asked.uri, headers::client(&head.headers, peer));
        loop {
            let session = match self.pool.get(root, &line).await {
                Ok(session) => session,
                Err(error) if attempts.may_start_another(&error) => continue,
                Err(error) => return Err(refused(asked, &error)),
            };
            let pid = session.pid();
            let (mut request, speech) = match self.tell(&session, asked, &call, &mut finder, &source).await {
                Ok(Told::Request(request, speech)) => (request, speech),
                Ok(Told::File(file)) => {
                    give_back(session).await;
                    return Ok(Answered::File(file));
                }
                Ok(Told::LengthFirst) => {
                    // Meanwhile the worker serves others.
                    give_back(session).await;
                    source = source.spool().await.map_err(unspooled)?;
                    call = asked.call(head, peer, upgrade.as_ref(), &source);
                    continue;
                }
                Err(page) => {
                    give_back(session).await;
                    return Err(page);
                }
            };
            let (sends, version) = (interim.clone(), head.version);
            hyper::ext::on_informational(&mut request, move |answer| {
                sends.send(version, answer.status(), answer.headers());
            });
            let failure = match exchange::send(session, root, request, speech, &source).await {
                Ok(Outcome::Switched { .. }) if upgrade.is_none() => {
                    let page = bad_gateway("The application changed the protocol without being asked to.");
                    log(asked, pid, &page, "it answered 101 to a request without an upgrade");
                    return Err(page);
                }
                Ok(outcome) => return Ok(Answered::Worker(outcome)),
                Err(failure) => failure,
            };
            if may_repeat(&head.method, &failure, &source)
                && let Some(pause) = attempts.after_failure_of(pid)
            {
                tracing::debug!(app = %root.display(), pid, "a worker was gone before it answered; trying another");
                tokio::time::sleep(pause).await;
                continue;
            }
            let page = failed(&failure, &source);
            // Who left can't be told, and it was not the application's fault.
            if !source.has_failed() {
                log(asked, pid, &page, &because(&failure));
            }
            return Err(page);
        }
    }

    /// The request in the words of a session's worker.
    async fn tell(
        &self,
        session: &Session,
        asked: &Asked<'_>,
        call: &Call<'_>,
        finder: &mut Finder,
        source: &Source,
    ) -> Result<Told, Page> {
        let body = || {
            let gone = || Page::new(StatusCode::BAD_GATEWAY, "Bad gateway", "The request could not be sent again.");
            source.body().ok_or_else(gone)
        };
        let (request, speech) = match session.protocol() {
            SessionProtocol::Http => (telling::as_http(call, body()?), Speech::Http),
            SessionProtocol::Session => telling::as_session(call, body()?)?,
            // CGI wants to know the length.
            SessionProtocol::Fastcgi if call.body == Length::Chunked => return Ok(Told::LengthFirst),
            SessionProtocol::Fastcgi => {
                let root = &asked.route.root;
                match finder.way(&self.folders, root, session.documents(), call).await? {
                    Way::Send(file) => return Ok(Told::File(file)),
                    Way::Ask(target) => {
                        let errors = Lines::new(root.clone(), session.pid());
                        telling::as_fastcgi(call, &target, body()?, errors)
                    }
                }
            }
            other => return Err(unspoken(asked, session.pid(), other)),
        };
        Ok(Told::Request(request, speech))
    }
}

/// What comes of telling a worker about a request.
#[derive(Debug)]
enum Told {
    Request(Request<Upload>, Speech),
    /// It is for none.
    File(Response<Pieces>),
    /// The body has to be read before its worker can be told.
    LengthFirst,
}

/// Where an answer comes from.
#[derive(Debug)]
enum Answered {
    Worker(Outcome),
    File(Response<Pieces>),
}

/// A session that was not used: its connection is as good as it was.
async fn give_back(session: Session) {
    // Only a forked child could not, and this is none.
    let _ = session.keep().await;
}

fn unspooled(why: Unspooled) -> Page {
    match why {
        Unspooled::Client => unfinished(),
        Unspooled::TooLong => Page::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Too large",
            "The body of the request is too large to be sent without saying its length first.",
        ),
        Unspooled::Disk(error) => {
            let folder = std::env::temp_dir();
            Page::internal(format_args!("a request's body can't be put aside in {}: {error}", folder.display()))
        }
    }
}

fn refused(asked: &Asked<'_>, error: &GetError) -> Page {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let app = asked.route.root.display();
    let (status_said, path, trace_id) = (status.as_u16(), asked.uri.path(), asked.trace_id);
    tracing::error!(%app, status = status_said, path, trace_id, "{error}");
    let development = asked.route.development;
    if let GetError::SpawnFailed(report) = error
        && development
    {
        return match serde_json::to_string(&report.for_tools()) {
            Ok(json) => Page::document(status, Document { html: report.html(), json, text: report.to_string() }),
            Err(error) => Page::internal(format_args!("a report can't be written as JSON: {error}")),
        };
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
    trace_id: Option<&'a str>,
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
        let trace_id = marks::trace_id(&head.headers);
        Ok(Self { route, uri: Uri::from(path), host, method: &head.method, trace_id })
    }

    fn call<'c>(
        &'c self,
        head: &'c request::Parts,
        peer: Peer,
        upgrade: Option<&'c HeaderValue>,
        source: &Source,
    ) -> Call<'c> {
        let body = match source.length() {
            // No bytes may have been announced.
            Length::None if head.headers.contains_key(header::CONTENT_LENGTH) => Length::Known(0),
            length => length,
        };
        Call { head, uri: &self.uri, host: self.host.as_ref(), prefix: &self.route.prefix, peer, upgrade, body }
    }
}

fn unspoken(asked: &Asked<'_>, pid: i32, protocol: SessionProtocol) -> Page {
    let name = format!("{protocol:?}").to_lowercase();
    let page = bad_gateway(format!("The application speaks the protocol {name}, which this server does not."));
    log(asked, pid, &page, "its protocol is not spoken here");
    page
}

/// Whether another worker may get the same request: none has seen it, or seeing it twice does no harm.
fn may_repeat(method: &Method, failure: &Failure, source: &Source) -> bool {
    // It said so itself.
    let refused = matches!(failure.odd, Some(Odd::Refused(Verdict::Overloaded | Verdict::CantMultiplex)));
    let harmless = !failure.sent || method.is_idempotent();
    let wanted = matches!(failure.ended, None | Some(Ended::WorkerGone | Ended::LeaseEnded));
    let unanswered = refused || harmless && !failure.received;
    unanswered && wanted && !source.has_failed() && !source.is_begun()
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
        _ => bad_gateway_for(failure),
    }
}

fn bad_gateway_for(failure: &Failure) -> Page {
    match &failure.odd {
        Some(Odd::Refused(Verdict::Overloaded | Verdict::CantMultiplex)) => Page::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Overloaded",
            "The application takes no more requests at the moment; try again.",
        )
        .retry_after(Some(SOON)),
        Some(Odd::Silent { .. }) => bad_gateway("The application ended the request without an answer."),
        Some(Odd::NoCgi(_) | Odd::TooShort { .. }) => bad_gateway("The application's answer is not CGI."),
        Some(Odd::NoFastcgi(_) | Odd::Refused(_) | Odd::Surplus) => bad_gateway("The application speaks no FastCGI."),
        Some(Odd::BrokenOff) => bad_gateway("The application ended the connection before it answered."),
        None if failure.received => bad_gateway("The application's answer is not HTTP."),
        None => bad_gateway("The application ended the connection before it answered."),
    }
}

fn unfinished() -> Page {
    Page::new(StatusCode::REQUEST_TIMEOUT, "Request timeout", "The rest of the request did not come.")
}

fn bad_gateway(text: impl Into<String>) -> Page {
    Page::new(StatusCode::BAD_GATEWAY, "Bad gateway", text)
}

fn log(asked: &Asked<'_>, pid: i32, page: &Page, why: &str) {
    let (app, status, path) = (asked.route.root.display(), page.status().as_u16(), asked.uri.path());
    let (method, trace_id) = (asked.method, asked.trace_id);
    tracing::error!(%app, pid, status, %method, path, trace_id, "no answer from a worker: {why}");
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
    match (said, &failure.odd) {
        ("", Some(odd)) => odd.to_string(),
        ("", None) => exchange::sentence(&failure.error),
        (said, _) => said.to_owned(),
    }
}
