//! A small client of the session protocol: a block of variables and a body out, an HTTP/1.1 answer in.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::harness::Worker;

/// A request's block of variables.
pub(crate) fn block(variables: &[(&str, &str)]) -> Vec<u8> {
    let variables: Vec<u8> =
        variables.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
    let mut block = format!("{}:", variables.len()).into_bytes();
    block.extend(variables);
    block.push(b',');
    block
}

/// What a web server tells of `METHOD PATH[?QUERY]`, and `more`.
pub(crate) fn request(method: &str, target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut variables = vec![
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", target),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "app.example"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("HTTP_HOST", "app.example"),
    ];
    for (name, value) in more {
        variables.retain(|(known, _)| known != name);
        variables.push((name, value));
    }
    block(&variables)
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body was as long as announced; it is not if the connection was closed too early.
    pub(crate) complete: bool,
}

impl Answer {
    /// The value of a header; its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection to a worker.
pub(crate) struct Session {
    pub(crate) stream: UnixStream,
    buffer: Vec<u8>,
}

impl Session {
    pub(crate) fn new(worker: &Worker) -> Self {
        Self::over(worker.connect())
    }

    pub(crate) fn over(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// A request without a body, and its answer.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send(&request("GET", target, &[]));
        self.answer("GET")
    }

    /// A request with a body of known length, and its answer.
    pub(crate) fn post(&mut self, target: &str, body: &[u8]) -> Answer {
        let length = body.len().to_string();
        self.send(&request("POST", target, &[("CONTENT_LENGTH", &length)]));
        self.send(body);
        self.answer("POST")
    }

    /// The answer to a request of this method.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let line = self.line().expect("an answer");
        let mut words = line.splitn(3, ' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{line}");
        let status = words.next().unwrap().parse().unwrap();
        let reason = words.next().unwrap_or_default().into();
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_string(), value.trim_start().to_string()));
        }
        let mut answer = Answer { status, reason, headers, body: Vec::new(), complete: true };
        let no_body = method == "HEAD" || matches!(status, 100..200 | 204 | 304);
        if no_body {
            return answer;
        }
        let chunked = answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = answer.header("content-length").map(|value| value.parse::<usize>().unwrap());
        assert!(!(chunked && length.is_some()), "both: {answer:?}");
        if chunked {
            answer.complete = self.chunks(&mut answer.body);
        } else if let Some(length) = length {
            answer.complete = self.exactly(length, &mut answer.body);
        } else {
            while self.more() {}
            answer.body.append(&mut self.buffer);
        }
        answer
    }

    /// Whether the worker closes this connection, and sends nothing before.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more() && self.buffer.is_empty()
    }

    /// All until the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// The next so many bytes, whatever they mean.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(self.exactly(count, &mut bytes), "the connection has ended after {bytes:?}");
        bytes
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line() else { return false };
            let length = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if length == 0 {
                return self.line().as_deref() == Some("");
            }
            if !self.exactly(length, body) || self.line().as_deref() != Some("") {
                return false;
            }
        }
    }

    fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length {
            if !self.more() {
                body.append(&mut self.buffer);
                return false;
            }
        }
        body.extend(self.buffer.drain(..length));
        true
    }

    /// The next line without its end; nothing where the connection ends before.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                read > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}
