//! This test binary as a worker: listens where it is told to, until it is killed.

use hatchery_protocol::link::LaunchPlan;
use rustix::net::{AddressFamily, SocketType};
use std::io::Write;
use std::net::{SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixListener;

use crate::keeper::Keeper;

const TCP: &str = "listen-tcp:";
const IPV6_ONLY: &str = "listen-ipv6-only:";
const UDP: &str = "receive-udp:";
const UNIX: &str = "listen-unix:";
const LINK: &str = "link-at:";
pub(crate) const GREETS_AT_3: &str = "greet-at-3";

/// A plan for a worker that does as `what` says, once `prefix` has been run before its command.
pub(crate) fn plan(keeper: &Keeper, prefix: &[&str], what: &str) -> LaunchPlan {
    let own = std::env::current_exe().unwrap();
    // The test harness takes what it does not know for the name of a test.
    let command = [prefix, &[own.to_str().unwrap(), "--exact", "worker::role", "--nocapture", what]].concat();
    keeper.plan(&command)
}

pub(crate) fn listens_at_tcp(address: &str) -> String {
    format!("{TCP}{address}")
}

pub(crate) fn listens_at_ipv6_only(address: &str) -> String {
    format!("{IPV6_ONLY}{address}")
}

pub(crate) fn receives_at(address: &str) -> String {
    format!("{UDP}{address}")
}

pub(crate) fn listens_at_unix(path: &str) -> String {
    format!("{UNIX}{path}")
}

pub(crate) fn makes_a_link_at(path: &str) -> String {
    format!("{LINK}{path}")
}

#[test]
fn role() {
    for argument in std::env::args() {
        if let Some(address) = argument.strip_prefix(TCP) {
            let listener = TcpListener::bind(address).unwrap();
            eprintln!("{}", listener.local_addr().unwrap());
            stay(listener);
        } else if let Some(address) = argument.strip_prefix(IPV6_ONLY) {
            let socket = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
            rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
            rustix::net::bind(&socket, &address.parse::<SocketAddrV6>().unwrap()).unwrap();
            rustix::net::listen(&socket, 8).unwrap();
            stay(socket);
        } else if let Some(address) = argument.strip_prefix(UDP) {
            stay(UdpSocket::bind(address).unwrap());
        } else if let Some(path) = argument.strip_prefix(UNIX) {
            stay(UnixListener::bind(path).unwrap());
        } else if argument == GREETS_AT_3 {
            // SAFETY: a worker is started with its listener there, and nothing else in this process knows of it.
            let listener = unsafe { UnixListener::from_raw_fd(3) };
            listener.accept().unwrap().0.write_all(b"hello").unwrap();
            stay(listener);
        } else if let Some(path) = argument.strip_prefix(LINK) {
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
            stay(());
        }
    }
}

fn stay<T>(_listener: T) -> ! {
    loop {
        std::thread::park();
    }
}
