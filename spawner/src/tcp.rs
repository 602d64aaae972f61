//! Who listens at which port of this machine, as `/proc/net` tells it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) transport: Transport,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// The user it belongs to.
    pub(crate) user: u32,
    /// What `/proc/PID/fd` names it by.
    pub(crate) inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// It takes no connections.
    Udp,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// All listeners of this network namespace.
pub(crate) fn listeners() -> Vec<Listener> {
    read(["/proc/net/tcp", "/proc/net/tcp6"], Transport::Tcp)
}

/// All that waits for datagrams in this network namespace.
pub(crate) fn receivers() -> Vec<Listener> {
    read(["/proc/net/udp", "/proc/net/udp6"], Transport::Udp)
}

fn read(files: [&str; 2], transport: Transport) -> Vec<Listener> {
    files
        .iter()
        // A machine without IPv6 lacks the second.
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| text.lines().filter_map(|line| parse(line, transport)).collect::<Vec<_>>())
        .collect()
}

/// The listener in a line; `None` for the heading, and for other sockets.
fn parse(line: &str, transport: Transport) -> Option<Listener> {
    // The states LISTEN, and CLOSE, which is what a socket without connections is always in.
    let waits = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, user, _, inode, ..] = fields[..] else { return None };
    if state != waits {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Listener {
        transport,
        address: address_of(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Words of 32 bits, each in this machine's order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000 100 0 0 10 0";
        let listener = parse(v4, Transport::Tcp).unwrap();
        assert_eq!(listener.to_string(), "127.0.0.1:8080");
        assert_eq!((listener.user, listener.inode), (1000, 4242));
        let v6 =
            "   1: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1";
        assert_eq!(parse(v6, Transport::Tcp).unwrap().to_string(), "[::1]:3000");
        let mapped = v6.replace("00000000000000000000000001000000", "0000000000000000FFFF00000100007F");
        assert_eq!(parse(&mapped, Transport::Tcp).unwrap().to_string(), "[::ffff:127.0.0.1]:3000");
    }

    #[test]
    fn what_waits_for_datagrams_is_no_listener_for_connections() {
        let line =
            "  1: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4242 2 0 0";
        assert_eq!(parse(line, Transport::Tcp), None);
        assert_eq!(parse(line, Transport::Udp).unwrap().to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn all_else_is_passed_over() {
        let established = "   0: 0100007F:1F90 0100007F:1111 01 00000000:00000000 00:00000000 00000000 0 0 1 1";
        for line in [
            "",
            "  sl  local_address rem_address   st tx_queue",
            established,
            "0: 01:1F90 0:0 0A 0 0 0 0 0 1",
            "0: é00007F:1F90 0:0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(parse(line, Transport::Tcp), None, "{line}");
        }
    }
}
