//! What `hatchery serve` has at `admin_http`: metrics, health, and what the live page asks.

use super::front::Front;
use super::http::{Answer, Browser};
use serde_json::Value;
use std::collections::BTreeMap;

pub struct LivePage {
    pub address: String,
    pub token: String,
}

/// A series and its labels, as they are written, and its value.
pub type Series = BTreeMap<String, f64>;

impl LivePage {
    /// Of a server that was started with `--admin-http 0`.
    pub fn of(front: &mut Front) -> Self {
        let line = loop {
            let line = front.line();
            if line.contains("live page at ") {
                break line;
            }
        };
        let (_, url) = line.split_once("live page at http://").expect("an address");
        let (address, token) = url.split_once("/?token=").expect("a token");
        Self { address: address.to_owned(), token: token.to_owned() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// Without the token.
    pub fn get(&self, path: &str) -> Answer {
        Browser::to(&self.address).get(path)
    }

    /// What an address of the API says.
    pub fn api(&self, path: &str) -> Value {
        let mut browser = Browser::to(&self.address);
        browser.ask("GET", path, &format!("Authorization: Bearer {}\r\n", self.token));
        serde_json::from_str(&browser.answer().ok()).expect("JSON")
    }

    pub fn scrape(&self) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
        answer.ok()
    }

    pub fn series(&self) -> Series {
        series(&self.scrape())
    }
}

pub fn series(text: &str) -> Series {
    let figures = text.lines().filter(|line| !line.starts_with('#'));
    let split = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no value: {line}")))
    };
    figures.map(split).collect()
}
