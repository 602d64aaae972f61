//! Whether a ready worker still answers.
//!
//! With `ping_path`, an HTTP worker has to answer a `GET` for it with a status below 500. Without, every worker is
//! asked its protocol's harmless question, as it was when it started: that a connection to its socket can be made
//! says nothing, since the kernel accepts it for a worker that hangs. Only of a protocol without such a question a
//! connection has to do.

use super::super::address::Address;
use super::super::shell::Shell;
use super::ask::{Answer, Question, ask};
use hatchery_pool::{ConnectFailure, Event, WorkerId};
use hatchery_protocol::client::SessionProtocol;
use std::os::fd::OwnedFd;

/// What a worker is asked; `None`: a connection is enough.
pub(crate) fn question(protocol: SessionProtocol, path: Option<String>) -> Option<Question> {
    match (protocol, path) {
        (SessionProtocol::Http, Some(path)) => Some(Question::Get(path)),
        (protocol, _) => Question::of(protocol),
    }
}

/// Asks, and tells the pool, which keeps the time.
pub(crate) async fn ping(shell: Shell, worker: WorkerId, question: Option<Question>) {
    let connected = {
        let state = shell.state();
        let Some(process) = state.workers.get(worker) else { return };
        process.address.as_ref().map_or(Err(ConnectFailure::Refused), Address::connect)
    };
    let alive = is_answered(connected, question).await;
    shell.tell(Event::Pinged { worker, alive });
}

async fn is_answered(connected: Result<OwnedFd, ConnectFailure>, question: Option<Question>) -> bool {
    let socket = match connected {
        Ok(socket) => socket,
        // The pool's own want of descriptors: nothing is held against the worker.
        Err(ConnectFailure::Exhausted) => return true,
        Err(ConnectFailure::Refused | ConnectFailure::BacklogFull) => return false,
    };
    let Some(question) = question else { return true };
    match ask(socket, &question).await {
        Ok(Answer::Sound(status)) => status.is_none_or(|status| status < 500),
        Ok(Answer::Nothing | Answer::Nonsense { .. }) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::task::LocalSet;

    /// Pings a real listener that answers with this, and returns what it was asked.
    async fn pinged(question: Option<Question>, answer: &'static [u8]) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("socket");
        let listener = UnixListener::bind(&place).unwrap();
        let socket = std::os::unix::net::UnixStream::connect(&place).unwrap();
        socket.set_nonblocking(true).unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let len = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..len]).into_owned()
        };
        let (alive, asked) =
            LocalSet::new().run_until(async { tokio::join!(is_answered(Ok(socket.into()), question), serving) }).await;
        (alive, asked)
    }

    #[tokio::test]
    async fn a_worker_lives_if_it_answers_its_path_below_500() {
        let path = || question(SessionProtocol::Http, Some("/health?deep".into()));
        let (alive, asked) = pinged(path(), b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(alive && asked.starts_with("GET /health?deep HTTP/1.1\r\nHost: localhost\r\n"), "{asked}");
        assert!(asked.contains("\r\nConnection: close\r\n") && asked.contains("\r\nUser-Agent: hatchery\r\n"));
        assert!(pinged(path(), b"HTTP/1.1 404 Not Found\r\n\r\n").await.0);
        for bad in [b"HTTP/1.1 500 Oops\r\n\r\n".as_slice(), b"nonsense\r\n\r\n", b""] {
            assert!(!pinged(path(), bad).await.0, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[tokio::test]
    async fn without_a_path_it_is_asked_what_it_was_asked_at_its_start() {
        let (alive, asked) = pinged(question(SessionProtocol::Http, None), b"HTTP/1.1 501 No\r\n\r\n").await;
        assert!(alive && asked.starts_with("OPTIONS * HTTP/1.1\r\n"), "{asked}");
        // A path is for HTTP alone.
        let fastcgi = question(SessionProtocol::Fastcgi, Some("/health".into()));
        assert!(pinged(fastcgi, &[1, 10, 0, 0, 0, 0, 0, 0]).await.0);
        assert!(!pinged(question(SessionProtocol::Session, None), b"nonsense").await.0);
    }

    #[tokio::test]
    async fn one_that_hangs_accepts_a_connection_but_is_not_alive() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("socket");
        let _hangs = UnixListener::bind(&place).unwrap();
        let socket = std::os::unix::net::UnixStream::connect(&place).unwrap();
        socket.set_nonblocking(true).unwrap();
        let ping = is_answered(Ok(socket.into()), question(SessionProtocol::Http, None));
        assert!(tokio::time::timeout(Duration::from_millis(30), ping).await.is_err());
    }

    #[tokio::test]
    async fn a_worker_at_a_port_is_asked_like_any_other() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = Address::Tcp(port).connect();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            asked
        };
        let ping = is_answered(socket, question(SessionProtocol::Http, None));
        let (alive, asked) = LocalSet::new().run_until(async { tokio::join!(ping, serving) }).await;
        assert!(alive && &asked == b"OPTIONS ");
        drop(listener);
        assert!(!is_answered(Address::Tcp(port).connect(), None).await);
    }

    #[tokio::test]
    async fn only_a_refusal_of_the_workers_own_counts() {
        assert!(!is_answered(Err(ConnectFailure::Refused), None).await);
        assert!(!is_answered(Err(ConnectFailure::BacklogFull), None).await);
        assert!(is_answered(Err(ConnectFailure::Exhausted), None).await);
    }
}
