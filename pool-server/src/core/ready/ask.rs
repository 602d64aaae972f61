//! Questions that any server of a protocol answers, and what their answers say.

use super::super::output::printable;
use hatchery_protocol::client::SessionProtocol;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long the rest of an answer may take.
const REST: Duration = Duration::from_secs(1);
/// `HTTP/1.1 200`: as much of an answer as tells its status.
const STATUS_LINE: usize = 12;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `OPTIONS *`, which no application sees as a request of its own; any status will do.
    Options,
    /// A `GET` for this path.
    Get(String),
    /// `FCGI_GET_VALUES` without names.
    Fastcgi,
    /// A block of no variables.
    Session,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is one of the protocol. With the status, if it was a `GET`'s.
    Sound(Option<u16>),
    /// It closed without a word.
    Nothing,
    /// What it should have been, and how it begins instead.
    Nonsense { wanted: &'static str, came: String },
}

impl Question {
    /// The harmless question of a protocol; `None` for one that has none.
    pub(crate) fn of(protocol: SessionProtocol) -> Option<Self> {
        match protocol {
            SessionProtocol::Http => Some(Self::Options),
            SessionProtocol::Fastcgi => Some(Self::Fastcgi),
            SessionProtocol::Session => Some(Self::Session),
            _ => None,
        }
    }

    fn text(&self) -> Vec<u8> {
        let http = |what: &str| {
            format!("{what} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: hatchery\r\nConnection: close\r\n\r\n").into()
        };
        match self {
            Self::Options => http("OPTIONS *"),
            Self::Get(path) => http(&format!("GET {path}")),
            // Version 1, type 9, request 0, no content.
            Self::Fastcgi => vec![1, 9, 0, 0, 0, 0, 0, 0],
            Self::Session => b"0:,".into(),
        }
    }

    fn judge(&self, answer: &[u8]) -> Answer {
        let (beginning, wanted): (&[u8], _) = match self {
            Self::Options | Self::Get(_) => (b"HTTP/", "HTTP"),
            Self::Fastcgi => (&[1, 10], "FastCGI"),
            Self::Session => (b"HTTP/", "a session"),
        };
        let nonsense = || Answer::Nonsense { wanted, came: printable(&String::from_utf8_lossy(answer)) };
        match self {
            _ if answer.is_empty() => Answer::Nothing,
            _ if !answer.starts_with(beginning) => nonsense(),
            Self::Get(_) => status(answer).map_or_else(nonsense, |status| Answer::Sound(Some(status))),
            _ => Answer::Sound(None),
        }
    }

    /// As much of an answer as it takes to judge it.
    fn enough(&self) -> usize {
        match self {
            Self::Options | Self::Session => 5,
            Self::Get(_) => STATUS_LINE,
            Self::Fastcgi => 2,
        }
    }
}

/// The status in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.get(..STATUS_LINE)?).ok()?;
    line.split(' ').nth(1)?.parse().ok().filter(|status| (100..1000).contains(status))
}

/// Asks over a connection of its own, whatever kind of socket it is.
pub(crate) async fn ask(socket: OwnedFd, question: &Question) -> io::Result<Answer> {
    let mut socket = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
    socket.write_all(&question.text()).await?;
    let mut answer = [0; 64];
    let mut len = 0;
    while len < question.enough() {
        match socket.read(&mut answer[len..]).await? {
            0 => break,
            read => len += read,
        }
    }
    let answer = question.judge(&answer[..len]);
    if matches!(answer, Answer::Sound(_)) {
        tokio::task::spawn_local(hear_out(socket));
    }
    Ok(answer)
}

/// Lets it finish: many servers log an error when nobody reads the rest of their answer. One that would wait for a
/// further question on this connection learns that there is none.
async fn hear_out(mut socket: UnixStream) {
    let _ = socket.shutdown().await;
    let rest = async { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(REST, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_beginning() {
        let get = Question::Get("/health".into());
        let nonsense = |wanted, came: &str| Answer::Nonsense { wanted, came: came.into() };
        for (question, answer, judged) in [
            (&get, "HTTP/1.1 200 OK\r\n", Answer::Sound(Some(200))),
            (&get, "HTTP/1.0 503 No\r\n", Answer::Sound(Some(503))),
            (&get, "", Answer::Nothing),
            (&get, "HTTP/1.1", nonsense("HTTP", "HTTP/1.1")),
            (&get, "HTTP/1.1 abc", nonsense("HTTP", "HTTP/1.1 abc")),
            (&Question::Options, "HTTP/1.1 404", Answer::Sound(None)),
            (&Question::Fastcgi, "\x01\x0a\x00", Answer::Sound(None)),
            (&Question::Session, "nonsense", nonsense("a session", "nonsense")),
        ] {
            assert_eq!(question.judge(answer.as_bytes()), judged, "{question:?}: {answer:?}");
        }
    }
}
