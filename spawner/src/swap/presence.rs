//! Which trials have somebody who waits for their verdict: what a killed run has left is put right, but nothing that
//! is exchanged or tried just now, be it for another name of the app, or by another pool.
//!
//! A spawner holds an abstract Unix address with the id of each of its trials, which the marker tells. Nobody listens
//! or connects there; that it is taken says that its holder lives and has not concluded, at the very moment of the
//! question, and without a file that could be left behind. Pools in containers with a network of their own don't see
//! each other: one app is not for both to update.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::os::fd::OwnedFd;

/// Says that this trial is under way, for as long as what is answered is held.
pub(crate) fn announce(id: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(format!("hatchery-deploy-{id}").as_bytes())?)?;
    Ok(socket)
}

/// An id that no other trial has.
pub(crate) fn fresh_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

pub(super) fn is_under_way(id: &str) -> bool {
    matches!(announce(id), Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_under_way_as_long_as_its_holder_says_so() {
        let id = fresh_id().unwrap();
        assert!(!is_under_way(&id));
        let held = announce(&id).unwrap();
        assert!(is_under_way(&id));
        drop(held);
        assert!(!is_under_way(&id));
    }
}
