//! A file as an answer: what has changed, what part of it is wanted, and what it is.

use super::documents::Plain;
use super::pages::Page;
use super::pieces::Pieces;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use std::fs::Metadata;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the client said about the file.
#[derive(Debug)]
pub(crate) struct Wanted {
    method: Method,
    none_match: Option<HeaderValue>,
    modified_since: Option<HeaderValue>,
    range: Option<HeaderValue>,
    if_range: Option<HeaderValue>,
}

impl Wanted {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let one = |name| headers.get(name).cloned();
        Self {
            method: method.clone(),
            none_match: one(header::IF_NONE_MATCH),
            modified_since: one(header::IF_MODIFIED_SINCE),
            range: one(header::RANGE),
            if_range: one(header::IF_RANGE),
        }
    }
}

/// A version of a file.
struct Version {
    modified: SystemTime,
    tag: String,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH);
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = format!("\"{:x}-{:x}\"", metadata.len(), since.as_nanos());
        // HTTP knows whole seconds.
        Self { modified: UNIX_EPOCH + Duration::from_secs(since.as_secs()), tag }
    }

    fn date(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// Whether the client has this one.
    fn is_known(&self, wanted: &Wanted) -> bool {
        if let Some(tags) = &wanted.none_match {
            let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag;
            return tags.to_str().is_ok_and(|tags| tags.split(',').any(|tag| same(tag.trim())));
        }
        let since =
            wanted.modified_since.as_ref().and_then(|since| httpdate::parse_http_date(since.to_str().ok()?).ok());
        since.is_some_and(|since| self.modified <= since)
    }

    /// Whether a part of it is a part of what the client has.
    fn is_meant(&self, wanted: &Wanted) -> bool {
        let Some(meant) = &wanted.if_range else { return true };
        meant.as_bytes() == self.tag.as_bytes() || meant.as_bytes() == self.date().as_bytes()
    }
}

/// # Errors
/// The page that says what is wrong with the request.
pub(crate) fn answer(plain: Plain, wanted: &Wanted) -> Result<Response<Pieces>, Page> {
    if wanted.method != Method::GET && wanted.method != Method::HEAD {
        return Err(Page::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Not allowed",
            "A file can be read here, and nothing else.",
        )
        .header(header::ALLOW, "GET, HEAD"));
    }
    let metadata = plain.file.metadata().map_err(|error| unreadable(&plain, &error))?;
    let version = Version::of(&metadata);
    let length = metadata.len();
    let file = Arc::new(plain.file);
    let whole = |status, length| {
        let mut answer = Response::new(Pieces::new(file.clone(), 0, length));
        *answer.status_mut() = status;
        answer
    };
    let mut answer = if version.is_known(wanted) {
        whole(StatusCode::NOT_MODIFIED, 0)
    } else {
        match part(wanted, &version, length) {
            Part::Whole => whole(StatusCode::OK, length),
            Part::Range(range) => {
                let (first, last) = range.into_inner();
                let mut answer = Response::new(Pieces::new(file.clone(), first, last - first + 1));
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                put(answer.headers_mut(), header::CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
                answer
            }
            Part::Impossible => {
                return Err(Page::new(StatusCode::RANGE_NOT_SATISFIABLE, "No such part", "The file is shorter.")
                    .header(header::CONTENT_RANGE, &format!("bytes */{length}")));
            }
        }
    };
    let headers = answer.headers_mut();
    put(headers, header::ETAG, &version.tag);
    put(headers, header::LAST_MODIFIED, &version.date());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let kind = mime_guess::from_path(&plain.name).first_raw().unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(answer)
}

enum Part {
    Whole,
    Range(RangeInclusive<u64>),
    Impossible,
}

/// Several parts at once, and what is no range, are answered with the whole.
fn part(wanted: &Wanted, version: &Version, length: u64) -> Part {
    let Some(range) = wanted.range.as_ref().and_then(|range| range.to_str().ok()) else { return Part::Whole };
    if wanted.method != Method::GET || !version.is_meant(wanted) {
        return Part::Whole;
    }
    let Ok(ranges) = http_range_header::parse_range_header(range) else { return Part::Whole };
    if ranges.len() != 1 {
        return Part::Whole;
    }
    match ranges.validate(length) {
        Ok(mut ranges) => ranges.pop().map_or(Part::Whole, Part::Range),
        Err(_) => Part::Impossible,
    }
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn unreadable(plain: &Plain, error: &io::Error) -> Page {
    tracing::error!(path = %plain.name.display(), "a file can't be read: {error}");
    Page::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", "The file can't be read.")
}
