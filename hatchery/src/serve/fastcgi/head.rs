//! The head of a CGI answer, and the head of HTTP that says the same.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use std::fmt;

/// A longer head is none.
pub(crate) const LONGEST: usize = 64 * 1024;

/// For one hop alone, or decided by how the answer is passed on.
const NOT_PASSED_ON: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
];

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// How long the program says that its body is.
    pub(crate) length: Option<u64>,
}

/// Why an answer is no CGI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotCgi {
    /// The line is shown.
    NoHeader(String),
    Status(String),
    Length(String),
    TooLong,
    /// It ended before its head did.
    Unfinished,
}

impl fmt::Display for NotCgi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader(line) => write!(f, "its head has the line {line:?}, which is no header"),
            Self::Status(value) => write!(f, "its Status is {value:?}, which is none"),
            Self::Length(value) => write!(f, "its Content-Length is {value:?}, which is no length"),
            Self::TooLong => write!(f, "its head is longer than {} KiB", LONGEST / 1024),
            Self::Unfinished => write!(f, "it ended before its head did: a blank line has to follow that"),
        }
    }
}

/// Where the head ends and the body begins, if that is in `bytes`; a search that goes on knows where the last one
/// came to.
pub(crate) fn end(bytes: &[u8], line: &mut usize) -> Option<usize> {
    while let Some(length) = bytes[*line..].iter().position(|byte| *byte == b'\n') {
        let blank = matches!(&bytes[*line..*line + length], b"" | b"\r");
        *line += length + 1;
        if blank {
            return Some(*line);
        }
    }
    None
}

impl Head {
    /// Reads a head with its blank line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotCgi> {
        let mut head = Self { status: StatusCode::OK, headers: Vec::new(), length: None };
        let (mut status, mut elsewhere) = (None, false);
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            // Programs that were written for another interface begin like a server.
            if number == 0 && line.starts_with(b"HTTP/1.") {
                status = Some(read_status(line.get(9..).unwrap_or_default())?);
                continue;
            }
            let (name, value) = split(line).ok_or_else(|| NotCgi::NoHeader(shown(line)))?;
            if name == "status" {
                status = Some(read_status(value.as_bytes())?);
            } else if name == header::CONTENT_LENGTH {
                let wrong = || NotCgi::Length(shown(value.as_bytes()));
                let length = value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
                if head.length.replace(length).is_some_and(|other| other != length) {
                    return Err(wrong());
                }
            } else if !NOT_PASSED_ON.contains(&name) {
                elsewhere |= name == header::LOCATION;
                head.headers.push((name, value));
            }
        }
        head.status = status.unwrap_or(if elsewhere { StatusCode::FOUND } else { StatusCode::OK });
        head.length = head.length.filter(|_| head.status != StatusCode::NO_CONTENT);
        Ok(head)
    }

    /// As HTTP. `chunked`: that is how the body follows, else it is as long as the program says.
    pub(crate) fn http(&self, chunked: bool) -> Bytes {
        let mut http = Vec::with_capacity(256);
        http.extend_from_slice(b"HTTP/1.1 ");
        http.extend_from_slice(self.status.as_str().as_bytes());
        http.extend_from_slice(b" \r\n");
        for (name, value) in &self.headers {
            http.extend_from_slice(name.as_str().as_bytes());
            http.extend_from_slice(b": ");
            http.extend_from_slice(value.as_bytes());
            http.extend_from_slice(b"\r\n");
        }
        if chunked {
            http.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if let Some(length) = self.length {
            http.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        http.extend_from_slice(b"\r\n");
        http.into()
    }
}

fn split(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// `404 Not Found`, or the number alone. An interim answer is none.
fn read_status(value: &[u8]) -> Result<StatusCode, NotCgi> {
    let number = value.trim_ascii().split(|byte| *byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(number).ok().filter(|status| (200..600).contains(&status.as_u16()));
    status.ok_or_else(|| NotCgi::Status(shown(value)))
}

/// The beginning of a line, for a sentence.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(head: &str) -> String {
        let mut line = 0;
        assert_eq!(end(head.as_bytes(), &mut line), Some(head.len()));
        String::from_utf8(Head::parse(head.as_bytes()).unwrap().http(false).to_vec()).unwrap()
    }

    #[test]
    fn the_status_is_what_is_said_or_follows() {
        assert_eq!(http("Content-Type: text/plain\n\n"), "HTTP/1.1 200 \r\ncontent-type: text/plain\r\n\r\n");
        assert_eq!(http("Status: 404 Not Found\r\n\r\n"), "HTTP/1.1 404 \r\n\r\n");
        assert_eq!(http("Location: /a\r\n\r\n"), "HTTP/1.1 302 \r\nlocation: /a\r\n\r\n");
        assert_eq!(http("Status: 201\r\nLocation: /a\r\n\r\n"), "HTTP/1.1 201 \r\nlocation: /a\r\n\r\n");
        assert_eq!(http("HTTP/1.1 410 Gone\r\nX-A: b\r\n\r\n"), "HTTP/1.1 410 \r\nx-a: b\r\n\r\n");
        assert_eq!(http("\n"), "HTTP/1.1 200 \r\n\r\n");
    }

    #[test]
    fn what_is_for_one_hop_is_not_passed_on_and_the_length_is() {
        let head = "Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(http(head), "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n");
    }

    #[test]
    fn what_is_no_head_is_shown() {
        for (head, why) in [
            ("nonsense\r\n\r\n", NotCgi::NoHeader("nonsense".into())),
            ("a b: c\n\n", NotCgi::NoHeader("a b: c".into())),
            ("Status: fine\n\n", NotCgi::Status("fine".into())),
            ("Status: 101 Switching\n\n", NotCgi::Status("101 Switching".into())),
            ("Content-Length: -1\n\n", NotCgi::Length("-1".into())),
            ("Content-Length: 1\nContent-Length: 2\n\n", NotCgi::Length("2".into())),
        ] {
            assert_eq!(Head::parse(head.as_bytes()).unwrap_err(), why);
        }
    }

    #[test]
    fn the_end_is_found_in_pieces_too() {
        let head = b"A: b\r\nC: d\r\n\r\nbody";
        for cut in 0..head.len() {
            let mut line = 0;
            let found = end(&head[..cut], &mut line).or_else(|| end(head, &mut line));
            assert_eq!(found, Some(14), "{cut}");
        }
        assert_eq!(end(b"A: b\r\n", &mut 0), None);
    }
}
