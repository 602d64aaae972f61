//! Listening sockets that were handed over at the start, as by systemd: `LISTEN_FDS` of them from descriptor 3 on, if
//! `LISTEN_PID` is this process. Whoever holds them too can start another server with them, and no client is refused.

use super::listen::{Bound, Place};
use crate::cli::Serve;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

const FIRST: RawFd = 3;
/// More than anybody hands over.
const MOST: RawFd = 1024;

/// Those that are not matched with a place yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    sockets: Vec<Bound>,
}

impl Inherited {
    /// Takes what was handed over to this process. Only at its start, before it has opened anything.
    ///
    /// # Errors
    /// One sentence: what was announced is not there, or nothing to accept connections from.
    pub(crate) fn take() -> Result<Self, String> {
        let count = announced(std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS"), std::process::id())?;
        let sockets =
            (FIRST..FIRST + count).map(|number| take(number)?.try_into_bound(number)).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// TCP places of these sockets that the options don't name: who can connect there decides what depends on that.
    pub(crate) fn unsaid(&self, options: &Serve) -> Vec<String> {
        let said = options.said.pool.listen.iter().flatten().filter_map(|text| text.parse().ok());
        let said: Vec<Place> = said.chain(options.port.map(Place::loopback)).collect();
        let tcp = self.sockets.iter().filter_map(place).filter(|place| matches!(place, Place::Tcp(_)));
        tcp.filter(|place| !said.iter().any(|said| covers(said, place))).map(|place| place.to_string()).collect()
    }

    /// The sockets for these places: an inherited one where it listens there, else a new one; and all others that were
    /// inherited. `said`: somebody named the places; else they are there for want of any other.
    ///
    /// # Errors
    /// One sentence that names the place and what to do.
    pub(crate) fn bind(mut self, places: &[Place], said: bool) -> Result<Vec<Bound>, String> {
        let mut bound = Vec::new();
        let unsaid = !said && !self.is_empty();
        for wanted in places.iter().filter(|_| !unsaid) {
            let found = self.sockets.iter().position(|socket| place(socket).is_some_and(|own| covers(wanted, &own)));
            bound.push(match found {
                Some(index) => self.sockets.swap_remove(index),
                None => Bound::bind(wanted)?,
            });
        }
        bound.append(&mut self.sockets);
        Ok(bound)
    }
}

/// How many there are.
fn announced(pid: Option<OsString>, count: Option<OsString>, own: u32) -> Result<RawFd, String> {
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<i64>().ok());
    // Else they are for whoever started this process.
    if pid.as_ref().and_then(number) != Some(i64::from(own)) {
        return Ok(0);
    }
    let Some(count) = count else { return Ok(0) };
    let sane = number(&count).and_then(|count| RawFd::try_from(count).ok()).filter(|count| (0..=MOST).contains(count));
    sane.ok_or_else(|| {
        format!("LISTEN_FDS is {count:?}; it has to be the number of sockets handed over, at most {MOST}")
    })
}

/// A descriptor that was handed over.
struct Handed(OwnedFd);

fn take(number: RawFd) -> Result<Handed, String> {
    let missing = |errno| format!("LISTEN_FDS names descriptor {number}, which is not there: {errno}");
    // SAFETY: only looked at, and not kept; a number that is not open is an error.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).map_err(missing)?;
    // SAFETY: it is open, was given to this process with that number, and nothing in here has opened any: this is its
    // only owner.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    // Pool and applications have no business with it.
    fcntl_setfd(&owned, FdFlags::CLOEXEC).map_err(missing)?;
    Ok(Handed(owned))
}

impl Handed {
    fn try_into_bound(self, number: RawFd) -> Result<Bound, String> {
        let Self(socket) = self;
        let wrong = || {
            format!(
                "descriptor {number}, which LISTEN_FDS names, is no listening socket of TCP or Unix streams (ListenStream=)"
            )
        };
        let listens =
            sockopt::socket_acceptconn(&socket) == Ok(true) && sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
        if !listens {
            return Err(wrong());
        }
        let unusable = |errno| format!("descriptor {number}, which LISTEN_FDS names, can't be used: {errno}");
        rustix::io::ioctl_fionbio(&socket, true).map_err(unusable)?;
        match sockopt::socket_domain(&socket) {
            Ok(AddressFamily::UNIX) => Ok(Bound::Unix(UnixListener::from(socket), None)),
            Ok(AddressFamily::INET | AddressFamily::INET6) => Ok(Bound::Tcp(TcpListener::from(socket))),
            _ => Err(wrong()),
        }
    }
}

/// Where a socket listens. `None`: it is a Unix socket without a path.
fn place(socket: &Bound) -> Option<Place> {
    match socket {
        Bound::Tcp(listener) => listener.local_addr().ok().map(Place::Tcp),
        Bound::Unix(listener, _) => listener.local_addr().ok()?.as_pathname().map(|path| Place::Unix(path.to_owned())),
    }
}

/// Whether a socket at `own` is what was wanted: every address may be every IPv4 address.
fn covers(wanted: &Place, own: &Place) -> bool {
    match (wanted, own) {
        (Place::Tcp(wanted), Place::Tcp(own)) if wanted.ip() == Ipv6Addr::UNSPECIFIED => {
            *own == *wanted || *own == SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()))
        }
        (wanted, own) => wanted == own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn inherited(sockets: impl IntoIterator<Item = Bound>) -> Inherited {
        Inherited { sockets: sockets.into_iter().collect() }
    }

    fn tcp(address: &str) -> (Bound, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (Bound::Tcp(listener), address)
    }

    fn options(arguments: &[&str]) -> Serve {
        match Cli::try_parse_from(["hatchery", "serve"].iter().chain(arguments)).unwrap().verb {
            Verb::Serve(options) => *options,
            other => unreachable!("serve was said, not {other:?}"),
        }
    }

    #[test]
    fn sockets_are_taken_only_by_the_process_they_are_for() {
        let said = |pid: &str, count: &str| announced(Some(pid.into()), Some(count.into()), 7);
        assert_eq!(said("7", "2"), Ok(2));
        assert_eq!(said("8", "2"), Ok(0));
        assert_eq!(said("", "2"), Ok(0));
        assert_eq!(announced(None, Some("2".into()), 7), Ok(0));
        assert_eq!(announced(Some("7".into()), None, 7), Ok(0));
        for count in ["two", "-1", "100000", ""] {
            assert!(said("7", count).unwrap_err().contains("LISTEN_FDS"), "{count}");
        }
    }

    #[test]
    fn what_is_no_listener_is_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let problem = Handed(stream.into()).try_into_bound(3).unwrap_err();
        assert!(problem.contains("descriptor 3") && problem.contains("no listening socket"), "{problem}");
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Handed(datagrams.into()).try_into_bound(4).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Handed(file.into()).try_into_bound(5).is_err());
        assert!(take(900_000).err().unwrap().contains("descriptor 900000, which is not there"));
    }

    #[test]
    fn an_inherited_socket_is_used_in_place_of_binding_its_address_and_the_others_are_served_too() {
        let ((first, at), (second, other)) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
        let wanted = [Place::Tcp(at), Place::loopback(0)];
        let bound = inherited([second, first]).bind(&wanted, true).unwrap();
        let places: Vec<Place> = bound.iter().filter_map(place).collect();
        assert_eq!((&places[0], &places[2]), (&Place::Tcp(at), &Place::Tcp(other)));
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn a_place_that_nobody_named_is_not_bound_besides_inherited_ones() {
        let (socket, at) = tcp("127.0.0.1:0");
        let bound = inherited([socket]).bind(&[Place::loopback(0)], false).unwrap();
        assert_eq!(bound.iter().filter_map(place).collect::<Vec<_>>(), [Place::Tcp(at)]);
        assert_eq!(inherited([]).bind(&[Place::loopback(0)], false).unwrap().len(), 1);
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path_and_its_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let socket = Handed(UnixListener::bind(&path).unwrap().into()).try_into_bound(3).unwrap();
        let bound = inherited([socket]).bind(&[Place::Unix(path.clone())], true).unwrap();
        assert_eq!(bound.len(), 1);
        drop(bound);
        assert!(path.exists(), "whoever made it removes it");
    }

    #[test]
    fn every_address_may_be_every_ipv4_address() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert!(covers(&place(":80"), &place("0.0.0.0:80")) && covers(&place(":80"), &place("[::]:80")));
        assert!(!covers(&place(":80"), &place("0.0.0.0:81")) && !covers(&place("0.0.0.0:80"), &place("[::]:80")));
    }

    #[test]
    fn tcp_places_that_the_options_name_are_not_named_again() {
        let (socket, at) = tcp("0.0.0.0:0");
        let (near, near_at) = tcp("127.0.0.1:0");
        let inherited = inherited([socket, near]);
        let unsaid = |arguments: &[&str]| inherited.unsaid(&options(arguments));
        assert_eq!(unsaid(&[]), [at.to_string(), near_at.to_string()]);
        assert_eq!(unsaid(&["--listen", &at.to_string(), "-p", "1"]), [near_at.to_string()]);
        assert_eq!(unsaid(&["--listen", &format!(":{}", at.port()), "-p", &near_at.port().to_string()]), [""; 0]);
    }
}
