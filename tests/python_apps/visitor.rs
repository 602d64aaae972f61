//! A visitor who fills in forms and keeps cookies.

use crate::support::front::Front;
use crate::support::http::{Answer, Browser};
use std::collections::BTreeMap;

const BOUNDARY: &str = "----------------------------of-a-test";

pub(crate) struct Visitor {
    browser: Browser,
    cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub(crate) fn to(front: &Front) -> Self {
        Self { browser: front.browser(), cookies: BTreeMap::new() }
    }

    pub(crate) fn cookie(&self, name: &str) -> &str {
        self.cookies.get(name).map_or("", String::as_str)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", &[])
    }

    pub(crate) fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        self.ask("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", fields.join("&").as_bytes())
    }

    /// Sends fields, and a file as `file`, the way a form does.
    pub(crate) fn upload(&mut self, path: &str, fields: &[(&str, &str)], name: &str, content: &[u8]) -> Answer {
        let mut body = Vec::new();
        for (field, value) in fields {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n");
            body.extend(part.bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(content);
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        self.ask("POST", path, &format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"), &body)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.browser.ask(method, path, &format!("{headers}{cookies}{length}"));
        self.browser.send(body);
        self.answer()
    }

    /// There may be several cookies in one answer, each in a header of the same name.
    fn answer(&mut self) -> Answer {
        let first = self.browser.line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut answer = Answer { status, headers: BTreeMap::new(), body: String::new() };
        loop {
            let line = self.browser.line();
            let Some((name, value)) = line.split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "set-cookie" {
                let pair = value.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').expect("a cookie");
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            answer.headers.insert(name, value.to_owned());
        }
        if answer.header("transfer-encoding") == "chunked" {
            answer.body = std::iter::from_fn(|| self.browser.chunk()).collect();
        } else if !matches!(status, 204 | 304) {
            let length = answer.header("content-length").parse().expect("a length");
            answer.body = self.browser.read_exact(length);
        }
        answer
    }
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// So many bytes that are not all alike.
pub(crate) fn content(length: u32) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What `zlib.adler32` makes of it.
pub(crate) fn adler32(content: &[u8]) -> u32 {
    let (low, high) = content.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}
