//! Looking for the listener that a worker makes itself. Runs in an errand, until it has found something or the
//! worker is gone.

use crate::errand::Answer;
use crate::privilege;
use crate::reports;
use crate::socket::{self, SocketError};
use crate::tcp::{self, Listener, Transport};
use crate::tree::{self, Owner};
use hatchery_protocol::link::Place;
use hatchery_protocol::mark;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A worker that listens elsewhere for so long means it: some open a port for debugging or metrics first.
const ELSEWHERE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Looking at all processes costs more than looking at all ports.
const BETWEEN_LOOKS_AT_PROCESSES: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("port {port} is taken by {owner}, which listens on {found}")]
    Taken { found: String, port: u16, owner: Owner },
    #[error("it listens on {found} instead of PORT={port}")]
    OtherPort { found: String, port: u16 },
    #[error("it listens on {found} only, and the pool connects to 127.0.0.1:{port}")]
    OtherAddress { found: String, port: u16 },
    #[error("it listens on {found} for IPv6 only, and the pool connects to 127.0.0.1:{port}")]
    Ipv6Only { found: String, port: u16 },
    #[error("it waits for datagrams (UDP) on {found}, where no connection arrives")]
    Datagrams { found: String },
    #[error("it listens on {found} instead of the socket {}", path.display())]
    NotTheSocket { found: String, path: PathBuf },
    #[error("it listens on the socket {} instead of {}", found.display(), path.display())]
    OtherSocket { found: PathBuf, path: PathBuf },
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
            Self::Ipv6Only { .. } => {
                "Let the app listen on 127.0.0.1 or 0.0.0.0, or turn off that its socket takes IPv6 only (IPV6_V6ONLY)."
                    .into()
            }
            Self::Datagrams { .. } => "Let the app listen for connections (TCP) on the port in PORT.".into(),
            Self::OtherSocket { .. } => {
                "Let the app listen on the very path that `{socket}` stands for, without anything added to it.".into()
            }
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
    let mut listeners = tcp::listeners();
    let at_port: Vec<_> = listeners.iter().filter(|listener| listener.port == port).cloned().collect();
    if !at_port.is_empty() {
        let own = own_sockets(pid);
        let mine = |listener: &&Listener| own.contains(&listener.inode) && takes_loopback(listener.address);
        // Whoever listens for IPv6 alone does so beside whoever listens for IPv4.
        let stranger = at_port
            .iter()
            .filter(|listener| !own.contains(&listener.inode) && takes_loopback(listener.address))
            .find(|listener| !at_port.iter().any(|other| mine(&other)) || listener.address.is_ipv4());
        match (at_port.iter().find(mine), stranger) {
            (Some(listener), _) if listener.address.is_ipv4() => return Ok(true),
            (_, Some(other)) => {
                // Seen twice, since a process can be missed while it starts another.
                let (found, owner) = (other.to_string(), tree::owner(other));
                return if elsewhere.is_second_look_at(other) {
                    Err(FindError::Taken { found, port, owner })
                } else {
                    Ok(false)
                };
            }
            (Some(_), None) if is_reached(port) => return Ok(true),
            _ => {}
        }
    }
    listeners.extend(tcp::receivers().into_iter().filter(|receiver| receiver.port == port));
    elsewhere.look(&listeners, |other| {
        let found = other.to_string();
        match other.transport {
            Transport::Udp => FindError::Datagrams { found },
            Transport::Tcp if other.port != port => FindError::OtherPort { found, port },
            Transport::Tcp if takes_loopback(other.address) => FindError::Ipv6Only { found, port },
            Transport::Tcp => FindError::OtherAddress { found, port },
        }
    })?;
    Ok(false)
}

/// Whether a connection arrives: nothing tells whether a listener for all of IPv6 takes IPv4 too.
fn is_reached(port: u16) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    let connected = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), PATIENCE);
    !connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn at_path(path: &[u8], owner: Option<u32>, elsewhere: &mut Elsewhere) -> Result<Option<OwnedFd>, FindError> {
    let path = PathBuf::from(OsStr::from_bytes(path));
    // The process is gone, and so is the looking for its socket in a moment.
    let Some(owner) = owner else { return Ok(None) };
    let socket = socket::take(&path, owner)?;
    if socket.is_none() && !path.exists() {
        elsewhere.look_beside(&path, owner)?;
        elsewhere.look(&tcp::listeners(), |other| FindError::NotTheSocket { found: other.to_string(), path })?;
    }
    Ok(socket)
}

fn own_sockets(pid: i32) -> BTreeSet<u64> {
    let mark = mark::of(pid, mark::WORKER);
    tree::sockets(&tree::of(pid, mark.as_deref(), &[]))
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
    neighbour: Option<(PathBuf, Instant)>,
}

impl Elsewhere {
    fn new(pid: i32) -> Self {
        Self { pid, looked: None, seen: None, stranger: None, neighbour: None }
    }

    fn is_second_look_at(&mut self, listener: &Listener) -> bool {
        self.stranger.replace(listener.inode) == Some(listener.inode)
    }

    /// Fails when a socket of another name has been in the worker's folder for long.
    fn look_beside(&mut self, path: &Path, owner: u32) -> Result<(), FindError> {
        let found = socket::neighbour(path, owner);
        let known = self.neighbour.take();
        self.neighbour = found.map(|found| match known {
            Some((seen, since)) if seen == found => (seen, since),
            _ => (found, Instant::now()),
        });
        match &self.neighbour {
            Some((found, since)) if since.elapsed() >= ELSEWHERE => {
                Err(FindError::OtherSocket { found: found.clone(), path: path.into() })
            }
            _ => Ok(()),
        }
    }

    /// Fails when the worker has listened in another place for long. `wrong` is told where.
    fn look(&mut self, listeners: &[Listener], wrong: impl FnOnce(&Listener) -> FindError) -> Result<(), FindError> {
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
            Some((listener, since)) if now - *since >= ELSEWHERE => Err(wrong(listener)),
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
