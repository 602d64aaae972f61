//! Looking for the listener that a worker makes itself. Runs in an errand, until it has found something or the
//! worker is gone.

use crate::errand::Answer;
use crate::privilege;
use crate::reports;
use crate::socket::{self, SocketError};
use crate::tcp::{self, Listener};
use crate::tree::{self, Owner};
use hatchery_protocol::link::Place;
use hatchery_protocol::mark;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A worker that listens elsewhere for so long means it: some open a port for debugging or metrics first.
const ELSEWHERE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Looking at all processes costs more than looking at all ports.
const BETWEEN_LOOKS_AT_PROCESSES: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("port {port} is taken by {owner}")]
    Taken { port: u16, owner: Owner },
    #[error("it listens on {found} instead of PORT={port}")]
    OtherPort { found: String, port: u16 },
    #[error("it listens on {found} only, and the pool connects to 127.0.0.1:{port}")]
    OtherAddress { found: String, port: u16 },
    #[error("it listens on {found} instead of the socket {}", path.display())]
    NotTheSocket { found: String, path: PathBuf },
    #[error("{0}")]
    Socket(#[from] SocketError),
}

impl FindError {
    fn remedy(&self) -> String {
        match self {
            Self::Taken { .. } => {
                "Nothing: the next start gets another port. If it happens again, see what takes the ports that programs \
                 are given (`ss -ltnp`)."
                    .into()
            }
            Self::OtherPort { .. } => {
                "Let the app listen on the port in its environment variable PORT, or fill `{port}` into its command, \
                 such as `command = \"node server.js --port {port}\"`."
                    .into()
            }
            Self::OtherAddress { .. } => "Let the app listen on 127.0.0.1, such as `--host 127.0.0.1`.".into(),
            Self::NotTheSocket { .. } => {
                "Fill `{port}` into its command instead of `{socket}`, or let it listen on the path it is given.".into()
            }
            Self::Socket(error) => error.remedy(),
        }
    }
}

/// Looks until there is an answer. A socket must belong to `owner`, or else to whom its process belongs to.
pub(crate) fn find(pid: i32, place: &Place, owner: Option<u32>) -> (Answer, Option<OwnedFd>) {
    let owner = owner.or_else(|| privilege::user_and_group(pid).map(|(user, _)| user));
    // A socket at a path takes root to be opened, in a folder that is closed to all but the worker's user.
    if matches!(place, Place::Port(_))
        && let Err(error) = privilege::approach(pid)
    {
        let problem = format!("the worker's listener can't be looked for as the worker's user: {error}");
        let remedy = "Let the pool keep root's capabilities to change users (CAP_SETUID, CAP_SETGID).";
        return (Answer::Failed(reports::find(pid, problem, remedy.into())), None);
    }
    let mut elsewhere = Elsewhere::new(pid);
    let mut pause = FIRST_PAUSE;
    loop {
        let found = match place {
            Place::Port(port) => at_port(pid, *port, &mut elsewhere).map(|found| found.then_some((Answer::Port, None))),
            Place::Path(path) => {
                at_path(path, owner, &mut elsewhere).map(|socket| socket.map(|socket| (Answer::Socket, Some(socket))))
            }
        };
        match found {
            Ok(Some(answer)) => return answer,
            Ok(None) => {}
            Err(error) => return (Answer::Failed(reports::find(pid, error.to_string(), error.remedy())), None),
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

fn at_port(pid: i32, port: u16, elsewhere: &mut Elsewhere) -> Result<bool, FindError> {
    let listeners = tcp::listeners();
    let at_port: Vec<_> = listeners.iter().filter(|listener| listener.port == port).collect();
    if at_port.is_empty() {
        return elsewhere.look(&listeners, |found, _| FindError::OtherPort { found, port }).map(|()| false);
    }
    let own = own_sockets(pid);
    if at_port.iter().any(|listener| own.contains(&listener.inode) && takes_loopback(listener.address)) {
        return Ok(true);
    }
    if let Some(other) =
        at_port.iter().find(|listener| !own.contains(&listener.inode) && takes_loopback(listener.address))
    {
        // Seen twice, since a process can be missed while it starts another.
        let owner = tree::owner(other);
        return if elsewhere.is_second_look_at(other) { Err(FindError::Taken { port, owner }) } else { Ok(false) };
    }
    elsewhere.look(&listeners, |found, found_port| {
        if found_port == port { FindError::OtherAddress { found, port } } else { FindError::OtherPort { found, port } }
    })?;
    Ok(false)
}

fn at_path(path: &[u8], owner: Option<u32>, elsewhere: &mut Elsewhere) -> Result<Option<OwnedFd>, FindError> {
    let path = PathBuf::from(OsStr::from_bytes(path));
    // The process is gone, and so is the looking for its socket in a moment.
    let Some(owner) = owner else { return Ok(None) };
    let socket = socket::take(&path, owner)?;
    if socket.is_none() && !path.exists() {
        elsewhere.look(&tcp::listeners(), |found, _| FindError::NotTheSocket { found, path })?;
    }
    Ok(socket)
}

fn own_sockets(pid: i32) -> BTreeSet<u64> {
    let mark = mark::of(pid, mark::WORKER);
    tree::sockets(&tree::of(pid, mark.as_deref()))
}

/// Whether a connection to 127.0.0.1 arrives at `address`.
fn takes_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST || address.is_unspecified(),
        IpAddr::V6(address) => {
            address == Ipv6Addr::UNSPECIFIED || address.to_ipv4_mapped().is_some_and(|v4| takes_loopback(v4.into()))
        }
    }
}

/// What was seen that should not be there, and since when.
#[derive(Debug)]
struct Elsewhere {
    pid: i32,
    looked: Option<Instant>,
    seen: Option<(Listener, Instant)>,
    stranger: Option<u64>,
}

impl Elsewhere {
    fn new(pid: i32) -> Self {
        Self { pid, looked: None, seen: None, stranger: None }
    }

    fn is_second_look_at(&mut self, listener: &Listener) -> bool {
        self.stranger.replace(listener.inode) == Some(listener.inode)
    }

    /// Fails when the worker has listened in another place for long. `wrong` is told the place and its port.
    fn look(&mut self, listeners: &[Listener], wrong: impl FnOnce(String, u16) -> FindError) -> Result<(), FindError> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < BETWEEN_LOOKS_AT_PROCESSES) {
            return Ok(());
        }
        self.looked = Some(now);
        let own = own_sockets(self.pid);
        let still_there = |seen: &Listener| listeners.contains(seen) && own.contains(&seen.inode);
        self.seen = match self.seen.take() {
            Some((listener, since)) if still_there(&listener) => Some((listener, since)),
            _ => listeners.iter().find(|listener| own.contains(&listener.inode)).map(|other| (other.clone(), now)),
        };
        match &self.seen {
            Some((listener, since)) if now - *since >= ELSEWHERE => Err(wrong(listener.to_string(), listener.port)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_addresses_are_reached_through_loopback() {
        for address in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
            assert!(takes_loopback(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.2", "192.168.0.1", "::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(!takes_loopback(address.parse().unwrap()), "{address}");
        }
    }
}
