//! Which pools there are: two pools may serve one app, and one must not undo what the other tries just now.
//!
//! Each spawner holds an abstract Unix address with its pool's random name. Nobody listens or connects there; that
//! it is taken says that its holder lives, whatever became of it, and without a file that could be left behind. Pools
//! in containers with a network of their own don't see each other: one app is not for both to update.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::os::fd::OwnedFd;

/// Says that this pool is there, for as long as what is answered is held.
pub(crate) fn announce(pool: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(format!("hatchery-deploys-{pool}").as_bytes())?)?;
    Ok(socket)
}

pub(super) fn is_there(pool: &str) -> bool {
    matches!(announce(pool), Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_there_as_long_as_it_says_so() {
        let pool = format!("presence{}", std::process::id());
        assert!(!is_there(&pool));
        let held = announce(&pool).unwrap();
        assert!(is_there(&pool));
        drop(held);
        assert!(!is_there(&pool));
    }
}
