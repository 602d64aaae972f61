//! The operator's HTTP, at `admin_http`: metrics, health, and the live page. No application is served here, and nothing
//! here goes through the applications' router.
//!
//! | file | holds |
//! | --- | --- |
//! | [`place`] | where it is served |
//! | [`guard`] | who may ask |
//! | [`answers`] | what every answer has |
//! | [`operator`] | the pool, asked in the words of its admin socket |
//! | [`metrics`], [`history`] | figures, and those of the last minutes |
//! | [`actions`] | what the page may do |
//! | `page/` | the page |

mod actions;
mod answers;
mod guard;
mod history;
mod metrics;
mod operator;
mod place;

use crate::orders::{APP, word};
use crate::serve::accept::Taking;
use crate::serve::cgi::decoded;
use crate::serve::forward::Front;
use crate::serve::listen::{Bound, Listener, Stream};
use crate::serve::pages::escape;
use crate::serve::pool::Pulse;
use actions::Action;
use answers::Answer;
use bytes::Bytes;
use guard::{Guard, Secret, names_of_this_machine};
use history::History;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::http::request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use operator::Operator;
pub(crate) use place::Wanted;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at once. The rest waits.
const CONNECTIONS: usize = 64;
/// Streams of events at once: of those connections, so that figures can always be had.
const STREAMS: usize = 16;
/// For a request's head, and for its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_BODY: usize = 64 * 1024;
/// How long the pool has to say that it lives.
const READY: Duration = Duration::from_secs(2);
/// Events and lines at once.
const MOST: u32 = 2000;
/// Of an application's name in a question, in bytes: the pool takes no longer line.
const LONGEST_NAME: usize = 3000;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/app.js");

/// A place that is listened at, before anything is answered there.
#[derive(Debug)]
pub(crate) struct AdminHttp {
    bound: Bound,
    guard: Guard,
}

impl AdminHttp {
    /// Takes the place. As long as there is one thread, and all rights to do so.
    ///
    /// # Errors
    /// One sentence that names the place and what to do.
    pub(crate) fn bind(wanted: &Wanted) -> Result<Self, String> {
        let secret = || Secret::new().map_err(|error| format!("the live page gets no token from the kernel: {error}"));
        let bound = wanted.bind()?;
        let near = matches!(bound, Bound::Unix(..));
        let guard = Guard {
            // Who may open the socket may see all.
            token: if near { None } else { Some(secret()?) },
            csrf: secret()?,
            hosts: (!near).then(|| names_of_this_machine(wanted.hosts.clone())),
            actions: wanted.actions,
        };
        Ok(Self { bound, guard })
    }

    /// The page's address, for its operator alone.
    pub(crate) fn address(&self) -> String {
        let place = self.bound.url();
        match &self.guard.token {
            Some(token) => format!("{place}/?token={}", token.digits()),
            None => place,
        }
    }

    /// Answers for ever. `ending`: the web server takes no new requests.
    pub(crate) async fn serve(self, front: Arc<Front>, ending: CancellationToken) {
        let listener = match Listener::new(self.bound) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("admin_http is not served: {error}"),
        };
        let (operator, history) = (Operator::default(), History::default());
        let streams = Arc::new(Semaphore::new(STREAMS));
        let scraping = tokio::sync::Mutex::default();
        let desk = Arc::new(Desk { front, guard: self.guard, operator, history, streams, scraping, ending });
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let taking = Taking { listener: &listener, room: &room };
        let taken = taking.for_ever(|(stream, _), place| {
            let desk = desk.clone();
            tokio::spawn(async move {
                match stream {
                    Stream::Tcp(stream) => serve(stream, desk).await,
                    Stream::Unix(stream) => serve(stream, desk).await,
                }
                drop(place);
            });
        });
        tokio::select! {
            () = taken => {}
            () = desk.history.keep(&desk.front, &desk.operator) => {}
        }
    }
}

async fn serve<S>(stream: S, desk: Arc<Desk>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LONGEST_BODY)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection to admin_http ended: {error}");
    }
}

/// What every request needs.
#[derive(Debug)]
struct Desk {
    front: Arc<Front>,
    guard: Guard,
    operator: Operator,
    history: History,
    streams: Arc<Semaphore>,
    /// One scrape at a time: anybody may ask for it.
    scraping: tokio::sync::Mutex<()>,
    ending: CancellationToken,
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        if let Err(refusal) = self.guard.host(&head) {
            return *refusal;
        }
        let asked = Query::of(&head);
        let looks = matches!(head.method, Method::GET | Method::HEAD);
        match head.uri.path() {
            "/metrics" | "/healthz" | "/readyz" if !looks => answers::only("GET"),
            "/metrics" => self.metrics().await,
            "/healthz" => answers::text(StatusCode::OK, "ok"),
            "/readyz" => self.ready().await,
            path if !self.guard.knows(&head.headers, asked.token(path)) => stranger(path),
            "/api/do" if head.method != Method::POST => answers::only("POST"),
            "/api/do" => self.act(&head, body).await,
            _ if !looks => answers::only("GET"),
            "/" => self.page(),
            "/app.js" => answers::whole(StatusCode::OK, answers::SCRIPT, SCRIPT),
            "/style.css" => answers::whole(StatusCode::OK, answers::CSS, STYLE),
            "/api/history" => answers::json(StatusCode::OK, self.history.json().to_string()),
            "/api/events/stream" => self.stream(&asked).await,
            path => match asked.question(path) {
                Some(Ok(question)) => self.pool_says(&question).await,
                Some(Err(why)) => answers::failed(StatusCode::BAD_REQUEST, &why),
                None => answers::text(StatusCode::NOT_FOUND, "there is nothing at this address; the page is at /"),
            },
        }
    }

    async fn metrics(&self) -> Answer {
        let _turn = self.scraping.lock().await;
        let pool = match metrics::of_pool(&self.operator, &self.front).await {
            Ok(pool) => Some(pool),
            Err(why) => {
                tracing::warn!("metrics without the pool's: {why}");
                None
            }
        };
        let names = self.history.names(pool.as_ref());
        match metrics::text(pool.as_ref(), &metrics::of_front(&self.front, &names)) {
            Ok(text) => answers::whole(StatusCode::OK, metrics::KIND, text),
            Err(why) => answers::text(StatusCode::INTERNAL_SERVER_ERROR, &why),
        }
    }

    async fn ready(&self) -> Answer {
        if self.ending.is_cancelled() {
            return answers::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting down: open requests are served to their end",
            );
        }
        match self.front.pool.pulse(Instant::now() + READY).await {
            Pulse::Beats => answers::text(StatusCode::OK, "ok"),
            Pulse::Away => {
                answers::text(StatusCode::SERVICE_UNAVAILABLE, "the pool is gone, and is being started again")
            }
            Pulse::Missing => {
                let sentence = format!("the pool does not answer within {} s", READY.as_secs());
                answers::text(StatusCode::SERVICE_UNAVAILABLE, &sentence)
            }
        }
    }

    /// With what its script has to know; there is nothing else in it.
    fn page(&self) -> Answer {
        let token = self.guard.token.as_ref().map_or("", Secret::digits);
        let query = if token.is_empty() { String::new() } else { format!("?token={token}") };
        let page = PAGE
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{query}}", &query)
            .replace("{{token}}", token)
            .replace("{{csrf}}", self.guard.csrf.digits())
            .replace("{{actions}}", if self.guard.actions { "true" } else { "false" });
        answers::whole(StatusCode::OK, answers::HTML, page)
    }

    async fn pool_says(&self, question: &str) -> Answer {
        match self.operator.ask(&self.front.pool, question).await {
            Ok(line) => answers::json(StatusCode::OK, line),
            Err(why) => answers::failed(StatusCode::SERVICE_UNAVAILABLE, &why),
        }
    }

    async fn stream(&self, asked: &Query) -> Answer {
        let Ok(place) = self.streams.clone().try_acquire_owned() else {
            return answers::failed(StatusCode::SERVICE_UNAVAILABLE, "too many pages follow the events already");
        };
        let mut events = match operator::follow(&self.front.pool, &format!("events json {}", asked.count(0))).await {
            Ok(events) => events,
            Err(why) => return answers::failed(StatusCode::SERVICE_UNAVAILABLE, &why),
        };
        let (sender, flow) = mpsc::channel::<Bytes>(1);
        let ending = self.ending.clone();
        tokio::spawn(async move {
            let passed_on = async {
                while let Some(line) = events.recv().await {
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = passed_on => {}
                () = sender.closed() => {}
                () = ending.cancelled() => {}
            }
            drop(place);
        });
        answers::lines(flow)
    }

    async fn act(&self, head: &request::Parts, body: Incoming) -> Answer {
        if let Err(refusal) = self.guard.may_act(&head.headers) {
            return *refusal;
        }
        let too_long = || {
            let why = format!("an action has at most {LONGEST_BODY} bytes");
            answers::failed(StatusCode::PAYLOAD_TOO_LARGE, &why)
        };
        if body.size_hint().lower() > LONGEST_BODY as u64 {
            return too_long();
        }
        let body = match timeout(BODY_TIMEOUT, Limited::new(body, LONGEST_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_long(),
            Ok(Err(_)) | Err(_) => {
                return answers::failed(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come");
            }
        };
        match Action::read(&body) {
            Ok(action) => action.carry_out(&self.front, &self.operator).await,
            Err(why) => answers::failed(StatusCode::BAD_REQUEST, &why),
        }
    }
}

/// Who does not know the token.
fn stranger(path: &str) -> Answer {
    const WHY: &str = "This needs the token that `hatchery serve` printed when it started, in the line that begins \
                       with `hatchery: live page at`. It is a new one after each start.";
    if path.starts_with("/api/") {
        return answers::failed(StatusCode::UNAUTHORIZED, WHY);
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Hatchery</title><h1>Which token?</h1><p>{}</p></html>\n",
        escape(WHY)
    );
    answers::whole(StatusCode::UNAUTHORIZED, answers::HTML, page)
}

/// What stands behind the `?`.
#[derive(Debug, Default)]
struct Query {
    token: Option<String>,
    app: Option<String>,
    count: Option<String>,
}

impl Query {
    fn of(head: &request::Parts) -> Self {
        let mut query = Self::default();
        for pair in head.uri.query().unwrap_or_default().split('&') {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = String::from_utf8_lossy(&decoded(&value.replace('+', " "))).into_owned();
            match key {
                "token" => query.token = Some(value),
                "app" => query.app = Some(value),
                "n" => query.count = Some(value),
                _ => {}
            }
        }
        query
    }

    /// An address may say it where a browser can't say more: of the page, and of what belongs to it.
    fn token(&self, path: &str) -> Option<&str> {
        if path.starts_with("/api/") { None } else { self.token.as_deref() }
    }

    fn count(&self, default: u32) -> u32 {
        self.count.as_ref().and_then(|count| count.parse().ok()).unwrap_or(default).min(MOST)
    }

    /// What the pool is asked at this path; `None`: nothing.
    fn question(&self, path: &str) -> Option<Result<String, String>> {
        let app = self.app.as_deref().unwrap_or_default();
        let word = |verb: &str| match app {
            "" => Ok(verb.to_owned()),
            app if app.len() > LONGEST_NAME => {
                Err(format!("an application's name has at most {LONGEST_NAME} bytes here"))
            }
            app => word(APP, app).map(|app| format!("{verb} {app}")),
        };
        match path {
            "/api/status" => Some(word("status")),
            "/api/sessions" => Some(word("sessions")),
            "/api/events" => Some(Ok(format!("events {}", self.count(100)))),
            "/api/logs" if app.is_empty() => Some(Err("say whose lines: /api/logs?app=NAME".to_owned())),
            "/api/logs" => Some(word("logs").map(|question| format!("{question} {}", self.count(100)))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(uri: &str) -> Query {
        Query::of(&Request::get(uri).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn nothing_in_an_address_becomes_another_line_for_the_pool() {
        for uri in ["/api/logs?app=a%0Ashutdown", "/api/logs?app=%22a%22%20500", "/?app=%1b"] {
            let question = query(uri).question("/api/logs");
            assert!(question.unwrap().is_err(), "{uri}");
        }
        let question = |uri: &str, path: &str| query(uri).question(path).unwrap().unwrap();
        assert_eq!(question("/?app=sh%6fp&n=9", "/api/logs"), "logs shop 9");
        assert_eq!(question("/?app=my+shop", "/api/sessions"), "sessions \"my shop\"");
        assert_eq!(question("/?n=999999", "/api/events"), format!("events {MOST}"));
        assert_eq!(question("/?n=x", "/api/events"), "events 100");
        assert_eq!(question("/", "/api/status"), "status");
        assert!(query("/").question("/api/shutdown").is_none());
    }

    #[test]
    fn the_api_takes_no_token_from_an_address() {
        let query = query("/api/status?token=abc");
        assert_eq!((query.token("/"), query.token("/api/status")), (Some("abc"), None));
    }

    #[test]
    fn every_mark_of_the_page_is_filled_in() {
        for mark in ["{{version}}", "{{query}}", "{{token}}", "{{csrf}}", "{{actions}}"] {
            assert!(PAGE.contains(mark), "{mark}");
        }
        assert!(!PAGE.contains(" style=") && !PAGE.contains("<style") && !PAGE.contains(" onclick"), "no inline code");
    }
}
