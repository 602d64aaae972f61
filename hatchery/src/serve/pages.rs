//! What Hatchery itself answers.

use bytes::Bytes;
use hatchery_protocol::report::escape;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use std::time::Duration;

/// One page, as HTML for browsers and as text for everything else.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    status: StatusCode,
    title: String,
    text: String,
    retry_after: Option<Duration>,
    /// A whole HTML document and its text, in place of title and text.
    document: Option<(String, String)>,
}

impl Page {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, title: title.into(), text: text.into(), retry_after: None, document: None }
    }

    pub(crate) fn document(status: StatusCode, html: String, text: String) -> Self {
        Self { document: Some((html, text)), ..Self::new(status, "", "") }
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

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn answer(self, html: bool) -> Response<Full<Bytes>> {
        let retry_after = self.retry_after.map(seconds_up);
        let status = self.status;
        let body = if html { self.html() } else { self.plain() };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
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
        answer
    }

    fn plain(self) -> String {
        match self.document {
            Some((_, text)) => format!("{}\n", text.trim_end()),
            None => format!("{}: {}\n", self.title, self.text),
        }
    }

    fn html(self) -> String {
        if let Some((html, _)) = self.document {
            return html;
        }
        let (title, text) = (escape(&self.title), escape(&self.text));
        // An empty reference is this address with its query; no script is needed.
        let passes = matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        let again = if passes { "<p><a class=\"button\" href=\"\">Try again</a></p>" } else { "" };
        format!("{HEAD}<title>{title}</title>{STYLE}<h1>{title}</h1><p>{text}</p>{again}</html>\n")
    }
}

pub(crate) const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\">";

pub(crate) const STYLE: &str = "<style>body{font:16px/1.6 system-ui,sans-serif;max-width:42em;margin:4em auto;padding:0 1em;\
    color:#222;background:#fcfcfa}h1{font-size:1.5em}code,pre{background:#f0efe9;border-radius:4px;padding:.1em .3em}\
    pre{padding:.8em;overflow:auto}.button{display:inline-block;border:1px solid;border-radius:4px;padding:.2em 1em;text-decoration:none}dt{float:left;clear:left;width:9em;color:#666}\
    dd{margin-left:9em}@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1a}code,pre{background:#2c2c2a}\
    a{color:#8ab4f8}dt{color:#999}}</style>";

/// Whether whoever sent this shows HTML to a person.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
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
    fn html_is_for_those_who_name_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        assert!(!wants_html(&headers));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9"));
        assert!(wants_html(&headers));
    }

    #[test]
    fn a_page_escapes_what_it_shows() {
        let page = Page::new(StatusCode::BAD_GATEWAY, "a<b", "\"&\"");
        assert!(page.clone().html().contains("<h1>a&lt;b</h1><p>&quot;&amp;&quot;</p>"));
        assert_eq!(page.plain(), "a<b: \"&\"\n");
    }
}
