//! What Hatchery itself answers.

use bytes::Bytes;
pub(crate) use hatchery_protocol::report::{AGAIN, HEAD, STYLE, escape};
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::time::Duration;

/// One page, as HTML for browsers and as text for everything else.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    status: StatusCode,
    title: String,
    text: String,
    retry_after: Option<Duration>,
    /// One further header.
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// In place of title and text.
    document: Option<Box<Document>>,
}

/// What is told of more than a sentence, to everybody in their own form.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) html: String,
    pub(crate) json: String,
    pub(crate) text: String,
}

/// Who reads an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person with a browser.
    Html,
    /// A tool.
    Json,
    Text,
}

impl Reader {
    /// Whoever sent this. A browser names HTML, and perhaps everything else too.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepts = |kind| {
            let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
            accepted.any(|accept| accept.contains(kind))
        };
        match () {
            () if accepts("text/html") => Self::Html,
            () if accepts("application/json") => Self::Json,
            () => Self::Text,
        }
    }
}

impl Page {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, title: title.into(), text: text.into(), retry_after: None, header: None, document: None }
    }

    pub(crate) fn document(status: StatusCode, document: Document) -> Self {
        Self { document: Some(Box::new(document)), ..Self::new(status, "", "") }
    }

    /// Sends somebody on; the address is encoded.
    pub(crate) fn moved(to: &str) -> Self {
        Self::new(StatusCode::MOVED_PERMANENTLY, "Moved", "This address ends in a slash.").header(header::LOCATION, to)
    }

    /// Says this too.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| Box::new((name, value)));
        self
    }

    /// Says when to try again, and offers a button for it.
    pub(crate) fn retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", "No application is served at this address.")
    }

    pub(crate) fn bad_request(text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", text)
    }

    /// The sentence is for the log.
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        tracing::error!("{why}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", "The log says what went wrong.")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn answer(self, reader: Reader) -> Response<Full<Bytes>> {
        let (retry_after, further) = (self.retry_after.map(seconds_up), self.header.clone());
        let status = self.status;
        let (kind, body) = match (reader, self.document) {
            (Reader::Json, Some(document)) => ("application/json", document.json),
            (Reader::Html, Some(document)) => (HTML, document.html),
            (Reader::Html, None) => (HTML, html(status, &self.title, &self.text)),
            (_, Some(document)) => (TEXT, format!("{}\n", document.text.trim_end())),
            (_, None) => (TEXT, format!("{}: {}\n", self.title, self.text)),
        };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        if matches!(status, StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT) {
            // Where this request ends is in doubt, and so is what follows.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some((name, value)) = further.map(|further| *further) {
            headers.insert(name, value);
        }
        answer
    }
}

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

fn html(status: StatusCode, title: &str, text: &str) -> String {
    let (title, text) = (escape(title), escape(text));
    // An empty reference is this address with its query; no script is needed.
    let passes = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    let again = if passes { AGAIN } else { "" };
    format!("{HEAD}<title>{title}</title>{STYLE}<h1>{title}</h1><p>{text}</p>{again}</html>\n")
}

/// Whole seconds, at least one: zero would be an invitation to hammer.
fn seconds_up(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (after, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (90_500, 91)] {
            assert_eq!(seconds_up(Duration::from_millis(after)), seconds);
        }
    }

    #[test]
    fn html_is_for_those_who_name_it_and_json_for_tools() {
        let reader = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Reader::of(&headers)
        };
        assert_eq!(reader("*/*"), Reader::Text);
        assert_eq!(reader("text/html,application/xhtml+xml;q=0.9,application/json"), Reader::Html);
        assert_eq!(reader("application/json, */*"), Reader::Json);
    }

    #[test]
    fn a_page_escapes_what_it_shows() {
        let page = html(StatusCode::BAD_GATEWAY, "a<b", "\"&\"");
        assert!(page.contains("<h1>a&lt;b</h1><p>&quot;&amp;&quot;</p>"));
    }
}
