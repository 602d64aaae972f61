//! The admin socket, as somebody types into it.

use super::PATIENCE;
use super::front::Front;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to the admin socket.
pub struct Line {
    pub stream: BufReader<UnixStream>,
}

impl Line {
    pub fn to(front: &Front) -> Self {
        Self::at(&front.admin())
    }

    pub fn at(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        Self { stream: BufReader::new(stream) }
    }

    pub fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("it is read");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "the connection ended after {line:?}");
        line.trim_end_matches('\n').to_owned()
    }

    /// The data lines and the last one.
    pub fn ask(&mut self, text: &str) -> (Vec<String>, String) {
        self.say(&format!("{text}\n"));
        let mut lines = Vec::new();
        loop {
            match self.line() {
                line if line.starts_with("  ") => lines.push(line),
                last => return (lines, last),
            }
        }
    }

    pub fn json(&mut self, text: &str) -> Value {
        self.say(&format!("{text}\n"));
        serde_json::from_str(&self.line()).expect("one line of JSON")
    }

    pub fn has_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}
