//! A pool that is played by the test itself, message by message.
//!
//! What `PoolServer` starts is a script that runs this very test executable again, as [`relay`]: it hands the
//! pool's end of the door to the test, and stays as the keeper's process until the test lets it go.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use hatchery_pool_client::{PoolServer, SessionProtocol, StartError, Transport};
use hatchery_protocol::channel::Channel;
use hatchery_protocol::client::{Ended, How, LeaseId, RequestId, SessionId, ToClient, ToPool};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::{memfd, packet};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};
use std::env;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take. Generous: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

const SOCKET: &str = "TEST_RELAY_SOCKET";

/// The pool's side.
pub struct FakePool {
    pub door: Channel<FromDoor, ToDoor>,
    pub config: PoolConfig,
    keeper: Option<UnixStream>,
    listener: UnixListener,
    _folder: TempDir,
}

/// One client's channel, the pool's end.
pub struct FakeCore {
    pub channel: Channel<ToClient, ToPool>,
}

/// A pool that opened, and the server that a front end has.
pub fn pool() -> (PoolServer, FakePool) {
    let (server, pool) = answering(opened);
    (server.expect("a pool"), pool)
}

/// A pool that answers the configuration so, given its process.
pub fn answering(answer: impl FnOnce(i32) -> FromDoor + Send) -> (Result<PoolServer, StartError>, FakePool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("relay");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let program = script(
        folder.path(),
        &format!(
            "exec 3<&0\n{SOCKET}={} {} --exact support::relay --ignored <&3 3<&- &\n",
            socket.display(),
            env::current_exe().expect("this program").display(),
        ),
    );
    let (server, (door, config, keeper)) = thread::scope(|scope| {
        let pool = scope.spawn(|| open(&listener, answer));
        let server = PoolServer::builder().pool_server(&program).max(3).start();
        (server, pool.join().expect("the pool's side"))
    });
    (server, FakePool { door, config, keeper: Some(keeper), listener, _folder: folder })
}

fn opened(pid: i32) -> FromDoor {
    FromDoor::Opened { pool: "fake".into(), pid, admin: None, pool_user: None }
}

/// The pool's side of its start.
fn open(
    listener: &UnixListener,
    answer: impl FnOnce(i32) -> FromDoor,
) -> (Channel<FromDoor, ToDoor>, PoolConfig, UnixStream) {
    let (keeper, _) = listener.accept().expect("a relay");
    let mut pid = [0; 4];
    let received = packet::receive(&keeper, &mut pid, RecvFlags::empty()).expect("the door");
    let end = received.descriptors.into_iter().next().expect("the door");
    let mut door = Channel::<FromDoor, ToDoor>::new(end);
    let (message, payload) = door.receive().expect("a configuration");
    assert_eq!(message, ToDoor::Configure);
    let config = memfd::read(&payload[0]).expect("a configuration");
    let answer = answer(i32::from_ne_bytes(pid));
    let (_, theirs) = packet::pair().expect("a socket for what is unasked");
    let descriptors: &[_] = if matches!(answer, FromDoor::Opened { .. }) { &[theirs.as_fd()] } else { &[] };
    door.send_with(&answer, descriptors).expect("an answer");
    (door, config, keeper)
}

/// An executable shell script. Another process writes it: a file that this one had open for writing while another
/// thread forked could not be executed for a moment (ETXTBSY).
pub fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("pool-server");
    let write = "printf '#!/bin/sh\\n%s' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let status = std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(text).status();
    assert!(status.expect("sh").success());
    path
}

#[test]
#[ignore = "is not a test but the keeper's process of the others, which they start"]
fn relay() {
    let Some(path) = env::var_os(SOCKET) else { return };
    let mut test = UnixStream::connect(path).expect("the test");
    // SAFETY: standard input was given to this process as the door, and nothing here reads it.
    let door = unsafe { OwnedFd::from_raw_fd(0) };
    let pid = i32::try_from(std::process::id()).expect("a process id").to_ne_bytes();
    packet::send(&test, &pid, &[door.as_fd()], SendFlags::empty()).expect("the test");
    drop(door);
    // Until the test is done with it.
    let _ = test.read_to_end(&mut Vec::new());
    std::process::exit(0);
}

impl FakePool {
    /// The next client that comes through the door, greeted.
    pub fn accept(&mut self) -> FakeCore {
        let mut core = self.accept_silently();
        core.channel.receive_hello().expect("a greeting");
        core.channel.send_hello().expect("a client");
        core
    }

    /// The next client, with its greeting unread.
    pub fn accept_silently(&mut self) -> FakeCore {
        wait(&self.door, "a client");
        let (message, mut end) = self.door.receive().expect("a client");
        assert_eq!(message, ToDoor::Connect);
        FakeCore { channel: Channel::new(end.pop().expect("a channel")) }
    }

    /// Whether all copies of the front end's end are closed.
    pub fn is_closed(&self) -> bool {
        ready(self.door.as_fd(), PATIENCE) && {
            let received = packet::receive(&self.door, &mut [0; 9000], RecvFlags::DONTWAIT);
            matches!(received, Ok(received) if received.len == 0)
        }
    }

    /// What its server starts next.
    pub fn restarted(self) -> Self {
        let (door, config, keeper) = open(&self.listener, opened);
        Self { door, config, keeper: Some(keeper), ..self }
    }

    /// The keeper's process ends.
    pub fn end(&mut self) {
        self.keeper = None;
    }
}

impl FakeCore {
    pub fn expect(&mut self) -> ToPool {
        wait(&self.channel, "a message");
        self.channel.receive().expect("a message").0
    }

    pub fn expect_get(&mut self) -> RequestId {
        match self.expect() {
            ToPool::Get { request, .. } => request,
            other => panic!("not a get: {other:?}"),
        }
    }

    pub fn expect_close(&mut self, session: u64, how: How) {
        assert_eq!(self.expect(), ToPool::Close { session: SessionId(session), how });
    }

    pub fn expect_closed(&mut self) {
        wait(&self.channel, "the end");
        self.channel.receive().expect_err("the end of the channel");
    }

    /// Nothing has come.
    pub fn is_silent(&self) -> bool {
        !ready(self.channel.as_fd(), Duration::from_millis(20))
    }

    pub fn say(&self, message: &ToClient) {
        self.channel.send(message).expect("a client");
    }

    /// A session over a fresh socket, whose other end is returned.
    pub fn grant(&self, request: RequestId, session: u64, lease: u64) -> UnixStream {
        let (worker, client) = UnixStream::pair().expect("a connection");
        client.set_nonblocking(true).expect("a connection");
        let message = message(request, session, lease, true);
        self.channel.send_with(&message, &[client.as_fd()]).expect("a client");
        worker
    }

    /// The same over TCP.
    pub fn grant_tcp(&self, request: RequestId, session: u64, lease: u64) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        client.set_nonblocking(true).expect("a connection");
        let mut message = message(request, session, lease, true);
        if let ToClient::Session { transport, .. } = &mut message {
            *transport = Transport::Tcp;
        }
        self.channel.send_with(&message, &[client.as_fd()]).expect("a client");
        listener.accept().expect("a connection").0
    }

    /// A session over the connection that is parked there.
    pub fn grant_parked(&self, request: RequestId, session: u64, lease: u64) {
        self.say(&message(request, session, lease, false));
    }

    pub fn end_session(&self, session: u64, lease: u64, why: Ended) {
        self.say(&ToClient::Ended { session: SessionId(session), lease: LeaseId(lease), why });
    }
}

pub fn message(request: RequestId, session: u64, lease: u64, fresh: bool) -> ToClient {
    ToClient::Session {
        documents: None,
        request,
        session: SessionId(session),
        lease: LeaseId(lease),
        fresh,
        pid: 4711,
        protocol: SessionProtocol::Http,
        transport: Transport::Unix,
    }
}

fn wait(fd: impl AsFd, what: &str) {
    assert!(ready(fd.as_fd(), PATIENCE), "waited {PATIENCE:?} in vain for {what}");
}

/// Whether there is something to receive within `limit`, be it the end.
pub fn ready(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a time");
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.expect("poll") > 0,
        }
    }
}

/// Reads to the end of file.
pub fn rest(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}
