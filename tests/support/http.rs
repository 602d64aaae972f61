//! A browser, down to its bytes.

use super::PATIENCE;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

pub trait Wire: Read + Write + Send {
    fn half_close(&self) -> std::io::Result<()>;
}

impl Wire for TcpStream {
    fn half_close(&self) -> std::io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Wire for UnixStream {
    fn half_close(&self) -> std::io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

/// One connection, kept as long as both sides like.
pub struct Browser {
    wire: BufReader<Box<dyn Wire>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lowercase.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body of an answer that must be 200.
    pub fn ok(self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }
}

impl Browser {
    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Self { wire: BufReader::new(Box::new(stream)) }
    }

    pub fn at(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { wire: BufReader::new(Box::new(stream)) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.get_mut().write_all(bytes.as_ref()).expect("a request is taken");
    }

    /// Sends a request without waiting for its answer.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str) {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "");
        self.answer()
    }

    pub fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &format!("Content-Length: {}\r\n", body.len()));
        self.send(body);
        self.answer()
    }

    pub fn head(&mut self, path: &str) -> Answer {
        self.ask("HEAD", path, "");
        self.answer_head()
    }

    /// Head and body.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head();
        let without = answer.status < 200 || matches!(answer.status, 204 | 304);
        answer.body = if answer.header("transfer-encoding") == "chunked" {
            std::iter::from_fn(|| self.chunk()).collect()
        } else if let Some(length) = answer.headers.get("content-length") {
            let mut body = vec![0; length.parse().expect("a length")];
            self.wire.read_exact(&mut body).expect("a whole body");
            String::from_utf8_lossy(&body).into_owned()
        } else if without {
            String::new()
        } else {
            self.rest()
        };
        answer
    }

    pub fn answer_head(&mut self) -> Answer {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        Answer { status, headers, body: String::new() }
    }

    /// The next piece of a chunked body; `None` at its end.
    pub fn chunk(&mut self) -> Option<String> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        let mut data = vec![0; size];
        self.wire.read_exact(&mut data).expect("a whole chunk");
        assert_eq!(self.line(), "");
        (size > 0).then(|| String::from_utf8_lossy(&data).into_owned())
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.wire.read_line(&mut line).expect("a line");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Everything until the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.wire.read_to_end(&mut rest).expect("the end of the connection");
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub fn read_exact(&mut self, length: usize) -> String {
        let mut read = vec![0; length];
        self.wire.read_exact(&mut read).expect("so many bytes");
        String::from_utf8_lossy(&read).into_owned()
    }

    pub fn half_close(&mut self) {
        self.wire.get_ref().half_close().expect("a half-close");
    }
}
