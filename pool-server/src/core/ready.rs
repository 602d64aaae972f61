//! Whether a worker is ready: it answers its protocol's harmless question, or says so itself. And whether it still
//! is, in `ready/ping.rs`.

mod ask;
pub(super) mod ping;

use super::shell::Shell;
use ask::{Answer, Question, ask};
use hatchery_pool::WorkerId;
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::mark;
use rustix::fs::{Mode, chmod};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How far up a process's ancestors are looked through.
const DEEPEST: usize = 64;

/// Asks until it answers; the pool ends the worker, and this with it, when its time is up.
pub(super) async fn probe(shell: Shell, worker: WorkerId, protocol: SessionProtocol) {
    let question = Question::of(protocol);
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = {
            let state = shell.state();
            let Some(process) = state.workers.get(worker) else { return };
            process.address.as_ref().map(super::address::Address::connect)
        };
        if let Some(Ok(socket)) = connected {
            let answered = match &question {
                Some(question) => ask(socket, question).await,
                None => Ok(Answer::Sound(None)),
            };
            match answered {
                Ok(Answer::Sound(_)) => return shell.worker_ready(worker),
                Ok(Answer::Nonsense { wanted, came }) => {
                    let problem = format!(
                        "it answered the readiness question with something that is not {wanted}: it begins with \
                         \"{came}\""
                    );
                    let remedy = if came.starts_with("HTTP/") {
                        "Set protocol = \"http\" in its hatchery.toml: that is what it speaks."
                    } else {
                        "Set `protocol` in its hatchery.toml to what it speaks (http, fastcgi, session)."
                    };
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

/// Waits for `READY=1` from the worker's own tree, which runs as `user` if not as this process.
pub(super) async fn notified(
    shell: Shell,
    worker: WorkerId,
    socket: Rc<UnixDatagram>,
    mark: String,
    user: Option<u32>,
) {
    loop {
        match socket.async_io(Interest::READABLE, || receive(&socket, user)).await {
            Ok((text, Some(sender))) if is_ready(&text) => {
                let own = shell.state().workers.get(worker).map(|worker| worker.pid);
                if own.is_some_and(|own| is_from(sender, own, &mark)) {
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

/// Whether the sender is the worker or of its tree. It may be gone already, as systemd-notify is; then that it knew
/// the random name must do. The environment of another user's process can't be read; its parents can.
fn is_from(sender: i32, worker: i32, mark: &str) -> bool {
    match mark::of(sender, mark::WORKER) {
        _ if sender == worker => true,
        Some(found) => found == mark,
        None => descends(sender, worker) || !Path::new(&format!("/proc/{sender}")).exists(),
    }
}

fn descends(pid: i32, ancestor: i32) -> bool {
    let parent = |pid: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().filter(|parent| *parent > 1)
    };
    std::iter::successors(Some(pid), parent).take(DEEPEST).any(|pid| pid == ancestor)
}

/// One datagram and its sender. Only our own user, the worker's and root are listened to.
fn receive(socket: &UnixDatagram, user: Option<u32>) -> io::Result<(String, Option<i32>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
    let own = rustix::process::geteuid();
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => {
            let known = sender.uid == own || sender.uid.is_root() || user == Some(sender.uid.as_raw());
            known.then_some(sender.pid.as_raw_nonzero().get())
        }
        _ => None,
    });
    Ok((String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), sender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_descends_from_its_parents_and_from_nobody_else() {
        let own = std::process::id().cast_signed();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let other = child.id().cast_signed();
        assert!(descends(other, own) && descends(own, own) && !descends(own, other));
        // Its environment says nothing of a worker, and it lives.
        assert!(is_from(other, own, "pool.1.1") && !is_from(own, other, "pool.1.1"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_from(other, other + 1, "pool.1.1"), "it is gone");
    }
}
