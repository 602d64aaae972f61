//! Whether a worker is ready: it answers its protocol's harmless question, or says so itself.

use super::output::printable;
use super::shell::Shell;
use hatchery_pool::WorkerId;
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::mark;
use rustix::fs::{Mode, chmod};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixDatagram, UnixStream};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long the rest of an answer may take.
const REST: Duration = Duration::from_secs(1);

/// Asks until it answers; the pool ends the worker, and this with it, when its time is up.
pub(super) async fn probe(shell: Shell, worker: WorkerId, protocol: SessionProtocol) {
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = {
            let state = shell.state();
            let Some(process) = state.workers.get(worker) else { return };
            process.address.as_ref().map(super::address::Address::connect)
        };
        if let Some(Ok(socket)) = connected {
            match ask(socket, protocol).await {
                Ok(Answer::Sound) => return shell.worker_ready(worker),
                Ok(Answer::Nonsense(what)) => {
                    let problem = format!("it answered the readiness question with something that is not {what}");
                    let remedy = "set `protocol` in its hatchery.toml to what it speaks (http, fastcgi, session)";
                    return shell.worker_answers_nonsense(worker, problem, remedy);
                }
                // It closed without a word: a server that is just starting may do so.
                Ok(Answer::Nothing) | Err(_) => {}
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Answer {
    Sound,
    Nothing,
    /// What it should have been, and what came.
    Nonsense(String),
}

async fn ask(socket: OwnedFd, protocol: SessionProtocol) -> io::Result<Answer> {
    // The question that no application sees as a request of its own; any status will do.
    const HTTP: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: hatchery\r\nConnection: close\r\n\r\n";
    // FCGI_GET_VALUES without names: version 1, type 9, request 0, no content.
    const FASTCGI: &[u8] = &[1, 9, 0, 0, 0, 0, 0, 0];
    // A block of no variables.
    const SESSION: &[u8] = b"0:,";
    let (question, beginning, name): (_, &[u8], _) = match protocol {
        SessionProtocol::Fastcgi => (FASTCGI, &[1, 10], "FastCGI"),
        SessionProtocol::Session => (SESSION, b"HTTP/", "a session"),
        _ => (HTTP, b"HTTP/", "HTTP"),
    };
    let mut socket = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
    socket.write_all(question).await?;
    let mut answer = [0; 64];
    let mut len = 0;
    while len < beginning.len() {
        match socket.read(&mut answer[len..]).await? {
            0 => break,
            read => len += read,
        }
    }
    let answer = &answer[..len];
    Ok(if answer.is_empty() {
        Answer::Nothing
    } else if answer.starts_with(beginning) {
        tokio::task::spawn_local(hear_out(socket));
        Answer::Sound
    } else {
        let came = printable(&String::from_utf8_lossy(answer));
        Answer::Nonsense(format!("{name}: it begins with \"{came}\""))
    })
}

/// Lets it finish: many servers log an error when nobody reads the rest of their answer. One that would wait for a
/// further question on this connection learns that there is none.
async fn hear_out(mut socket: UnixStream) {
    let _ = socket.shutdown().await;
    let rest = async { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(REST, rest).await;
}

/// A worker's own `NOTIFY_SOCKET`. Its name is random, and gone when this is dropped.
pub(super) struct NotifySocket {
    socket: Rc<UnixDatagram>,
    path: PathBuf,
}

impl NotifySocket {
    pub(super) fn bind(folder: &Path) -> io::Result<Self> {
        let mut name = [0_u8; 8];
        rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty())?;
        let path = folder.join(format!("{:016x}", u64::from_ne_bytes(name)));
        let socket = UnixDatagram::bind(&path)?;
        let bound = Self { socket: Rc::new(socket), path };
        // Whoever knows the name may send; who it was is checked on receipt.
        chmod(&bound.path, Mode::from_raw_mode(0o622))?;
        set_socket_passcred(&*bound.socket, true)?;
        Ok(bound)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn socket(&self) -> Rc<UnixDatagram> {
        Rc::clone(&self.socket)
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits for `READY=1` from the worker's own tree.
pub(super) async fn notified(shell: Shell, worker: WorkerId, socket: Rc<UnixDatagram>, mark: String) {
    loop {
        match socket.async_io(Interest::READABLE, || receive(&socket)).await {
            Ok((text, Some(sender))) if is_ready(&text) => {
                let own = shell.state().workers.get(worker).map(|worker| worker.pid);
                if own == Some(sender) || is_from(sender, &mark) {
                    drop(socket);
                    return shell.worker_notified(worker);
                }
                tracing::warn!(
                    worker = worker.0,
                    pid = sender,
                    "READY=1 from a process that is not the worker's is ignored"
                );
            }
            // STATUS= and the like.
            Ok(_) => {}
            Err(error) => return tracing::error!(worker = worker.0, "its notify socket: {error}"),
        }
    }
}

fn is_ready(text: &str) -> bool {
    text.lines().any(|line| line == "READY=1")
}

/// The sender may be gone already, as systemd-notify is; then that it knew the random name must do.
fn is_from(pid: i32, mark: &str) -> bool {
    match mark::of(pid, mark::WORKER) {
        Some(found) => found == mark,
        None => !Path::new(&format!("/proc/{pid}")).exists(),
    }
}

/// One datagram and its sender. Only our own user and root are listened to.
fn receive(socket: &UnixDatagram) -> io::Result<(String, Option<i32>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
    let own = rustix::process::geteuid();
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) if sender.uid == own || sender.uid.is_root() => {
            Some(sender.pid.as_raw_nonzero().get())
        }
        _ => None,
    });
    Ok((String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), sender))
}
