//! Where the web server listens.

use super::headers::Peer;
use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

const PORT: u16 = 8080;

/// `ADDRESS:PORT`, `:PORT` (every address), `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Default for Place {
    fn default() -> Self {
        Self::loopback(PORT)
    }
}

impl Place {
    pub(crate) fn loopback(port: u16) -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Nobody on another machine reaches it.
    pub(crate) fn is_near(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no place to listen; write ADDRESS:PORT, :PORT or unix:PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(wrong());
            }
            return std::path::absolute(path).map(Self::Unix).map_err(|error| format!("{path}: {error}"));
        }
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| wrong())?;
            return Ok(Self::Tcp((Ipv6Addr::UNSPECIFIED, port).into()));
        }
        if let Some(rest) = text.strip_prefix("localhost") {
            let port = match rest.strip_prefix(':') {
                Some(port) => port.parse().map_err(|_| wrong())?,
                None if rest.is_empty() => PORT,
                None => return Err(wrong()),
            };
            return Ok(Self::loopback(port));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Self::Tcp((address, PORT).into()));
        }
        text.parse().map(Self::loopback).map_err(|_| wrong())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound place, not yet part of a runtime.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    /// `None`: it was handed over, and its name is for whoever made it to remove.
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket's name in the file system; removed when this is dropped, if it is still this socket's.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Who may connect to a place, and who named it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    /// The option that chooses another place.
    pub(crate) option: &'static str,
    /// Of a socket in the file system.
    pub(crate) mode: u32,
}

/// Whoever may enter the folder may connect, as a web server in front must.
const FOR_CLIENTS: Binding = Binding { option: "--port", mode: 0o666 };

impl Bound {
    /// # Errors
    /// One sentence that names the place and what to do.
    pub(crate) fn bind(place: &Place) -> Result<Self, String> {
        Self::bind_as(place, FOR_CLIENTS)
    }

    /// # Errors
    /// One sentence that names the place and what to do.
    pub(crate) fn bind_as(place: &Place, how: Binding) -> Result<Self, String> {
        match place {
            Place::Tcp(address) => bind_tcp(*address).map_err(|error| tcp_problem(*address, &error, how.option)),
            Place::Unix(path) => bind_unix(path, how.mode),
        }
    }

    /// What to type into a browser, or to give to a proxy.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
                Ok(address) => format!("http://{address}"),
                Err(error) => error.to_string(),
            },
            Self::Unix(_, Some(file)) => format!("unix:{}", file.path.display()),
            Self::Unix(listener, None) => match listener.local_addr() {
                Ok(address) => match address.as_pathname() {
                    Some(path) => format!("unix:{}", path.display()),
                    None => "a Unix socket without a path".to_owned(),
                },
                Err(error) => error.to_string(),
            },
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    let listener = match TcpListener::bind(address) {
        // No IPv6 here: every address is every IPv4 address.
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    Ok(Bound::Tcp(listener))
}

fn tcp_problem(address: SocketAddr, error: &io::Error, option: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{address} is taken by another program; stop that one, or choose another port with {option}")
        }
        ErrorKind::PermissionDenied => format!(
            "{address} needs privileges; choose a port above 1023 with {option}, or give the capability CAP_NET_BIND_SERVICE"
        ),
        ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine; see `ip address`"),
        _ => format!("{address} can't be listened on: {error}"),
    }
}

fn bind_unix(path: &Path, mode: u32) -> Result<Bound, String> {
    let shown = path.display();
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(format!("unix:{shown} is taken by another program; stop that one, or choose another path"));
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
            if !is_socket {
                return Err(format!("{shown} exists and is no socket; choose another path"));
            }
            std::fs::remove_file(path)
                .map_err(|error| format!("the stale socket {shown} can't be removed: {error}"))?;
        }
        Err(_) => {}
    }
    let bind = || -> io::Result<Bound> {
        // From the first moment nobody may connect who may not later. There is one thread still.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(mask);
        let listener = bound?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let found = std::fs::symlink_metadata(path)?;
        Ok(Bound::Unix(listener, Some(SocketFile { path: path.to_owned(), inode: (found.dev(), found.ino()) })))
    };
    bind().map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!("{shown} exists and is no socket of ours; choose another path"),
        ErrorKind::NotFound => format!("unix:{shown} can't be made: its folder does not exist"),
        _ => format!("unix:{shown} can't be listened on: {error}"),
    })
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepting connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, #[expect(dead_code, reason = "its end removes the file")] Option<SocketFile>),
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    /// # Errors
    /// When the runtime can't take it.
    pub(crate) fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Self::Unix(tokio::net::UnixListener::from_std(listener)?, file),
        })
    }

    /// # Errors
    /// When there is no descriptor for it, mostly.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                tcp(stream, address)
            }
            Self::Unix(listener, _) => (Stream::Unix(listener.accept().await?.0), Peer::Unix),
        })
    }
}

impl Listener {
    /// A connection that waits already, also one that the runtime has not heard of yet.
    ///
    /// # Errors
    /// None waits, mostly.
    pub(crate) fn accept_now(&self) -> io::Result<(Stream, Peer)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(match self {
            Self::Tcp(listener) => {
                let stream = std::net::TcpStream::from(accept_with(listener, flags)?);
                let address = stream.peer_addr()?;
                tcp(tokio::net::TcpStream::from_std(stream)?, address)
            }
            Self::Unix(listener, _) => {
                let stream = UnixStream::from(accept_with(listener, flags)?);
                (Stream::Unix(tokio::net::UnixStream::from_std(stream)?), Peer::Unix)
            }
        })
    }
}

fn tcp(stream: tokio::net::TcpStream, address: SocketAddr) -> (Stream, Peer) {
    let _ = stream.set_nodelay(true);
    notice_dead_clients(&stream);
    (Stream::Tcp(stream), Peer::Ip(address.ip()))
}

/// A client that vanished without a word would hold its worker for ever.
fn notice_dead_clients(stream: &tokio::net::TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, std::time::Duration::from_secs(30));
    let _ = sockopt::set_tcp_keepintvl(stream, std::time::Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    // Milliseconds until sent bytes must be acknowledged.
    let _ = sockopt::set_tcp_user_timeout(stream, 60_000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, shown, near) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            (":8080", "[::]:8080", false),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            ("[::1]:3000", "[::1]:3000", true),
            ("[::1]", "[::1]:8080", true),
            ("192.0.2.1", "192.0.2.1:8080", false),
            ("localhost:81", "127.0.0.1:81", true),
            ("9000", "127.0.0.1:9000", true),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), shown);
            assert_eq!(place.is_near(), near, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "unix:", ":", ":x", "example.org:80", "1.2.3.4:99999", "localhosts:80", "http://127.0.0.1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let place = Place::Unix(path.clone());
        let bound = Bound::bind(&place).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(Bound::bind(&place).unwrap_err().contains("is taken by another program"));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "mine").unwrap();
        assert!(Bound::bind(&Place::Unix(path.clone())).is_err());
        assert!(path.exists());
    }
}
