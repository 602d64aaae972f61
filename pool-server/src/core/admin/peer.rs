//! Who is at the other end of a connection, by the kernel's word.

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Whoever connected, as they were then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// All of them, the primary one first.
    pub(super) groups: Vec<u32>,
}

/// # Errors
/// As the kernel says.
pub(super) fn of(stream: &impl AsFd) -> io::Result<Peer> {
    // Whose process it is may not be seen from here, as from within a container: its number is 0 then.
    let credentials = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    let primary = credentials.gid();
    let mut groups = vec![primary];
    groups.extend(supplementary(stream.as_fd())?.into_iter().filter(|group| *group != primary));
    Ok(Peer { uid: credentials.uid(), groups })
}

/// A kernel that can't tell them tells none: then only the primary group counts.
fn supplementary(stream: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).map_err(io::Error::other)?;
        // SAFETY: the buffer holds `length` bytes, which the kernel fills with whole numbers at most; any bytes are
        // numbers. The descriptor is borrowed, so that it stays open.
        let told = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        match Errno::result(told) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // It says how many there are.
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(Errno::ENOPROTOOPT | Errno::ENODATA) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_told_with_all_its_groups() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = of(&ours).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.groups[0], nix::unistd::getegid().as_raw());
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        assert!(own.iter().all(|group| peer.groups.contains(group)), "{own:?} {peer:?}");
        drop(theirs);
        assert_eq!(of(&ours).unwrap(), peer, "also when it is gone");
    }
}
