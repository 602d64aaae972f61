//! What an operator recognises a request by: its line, and the trace that it belongs to.

use crate::cut;
use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use std::fmt::Write;
use std::net::IpAddr;

/// Bytes of a request's line that the pool is told.
const LONGEST: usize = 200;

/// `GET /path?query from 192.0.2.1`: what a session is for.
pub(crate) fn line(method: &Method, uri: &Uri, client: Option<IpAddr>) -> String {
    let mut line = String::with_capacity(LONGEST);
    let target = uri.path_and_query().map_or("*", |target| target.as_str());
    let _ = write!(line, "{method} {target}");
    // The address that asks is of more use than the end of a long path.
    let from = client.map(|client| client.to_string());
    let room = LONGEST - from.as_ref().map_or(0, |from| from.len() + " from ".len());
    if line.len() > room {
        line.truncate(cut::beginning(&line, room - "…".len()).len());
        line.push('…');
    }
    if line.contains(char::is_control) {
        line = line.replace(char::is_control, "?");
    }
    if let Some(from) = from {
        line.push_str(" from ");
        line.push_str(&from);
    }
    line
}

/// The trace that a request belongs to, if its `traceparent` is well formed: 32 digits.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut told = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (told.next(), told.next()) else { return None };
    let mut parts = parent.to_str().ok()?.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length| part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let known = version == "00" && parts.next().is_none();
    let sound = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let said = trace.bytes().any(|b| b != b'0') && span.bytes().any(|b| b != b'0');
    // Later versions may say more behind that.
    (sound && said && (known || version != "00")).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_asked_for_and_by_whom_in_200_bytes() {
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        let uri: Uri = "/cart?id=7".parse().unwrap();
        assert_eq!(line(&Method::GET, &uri, client), "GET /cart?id=7 from 192.0.2.1");
        assert_eq!(line(&Method::POST, &uri, None), "POST /cart?id=7");
        let long: Uri = format!("/{}", "x".repeat(500)).parse().unwrap();
        let shown = line(&Method::GET, &long, client);
        assert!(shown.len() <= LONGEST && shown.ends_with("x… from 192.0.2.1"), "{shown}");
    }

    #[test]
    fn only_a_well_formed_trace_has_an_id() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            trace_id(&headers).map(str::to_owned)
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(id(&format!("00-{trace}-b7ad6b7169203331-01")).as_deref(), Some(trace));
        assert_eq!(id(&format!("cc-{trace}-b7ad6b7169203331-01-more")).as_deref(), Some(trace));
        for wrong in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
        ] {
            assert_eq!(id(&wrong), None, "{wrong}");
        }
    }
}
