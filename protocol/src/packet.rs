//! One packet of a `SOCK_SEQPACKET` socket with its descriptors.
//!
//! Receiving is here and nowhere else: every descriptor is close-on-exec and owned before anything is judged,
//! so that no error path can leak one.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel's limit for one message (`SCM_MAX_FD`). With room for all of them, a truncated control message
/// can only mean that this process is out of descriptors.
const MAX_DESCRIPTORS: usize = 253;

/// What one receive brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the buffer that were filled; 0 is the end of the channel.
    pub len: usize,
    pub descriptors: Vec<OwnedFd>,
    /// Bytes or descriptors did not fit and are lost: the channel can't be trusted any more.
    pub truncated: bool,
}

/// Two connected ends.
///
/// # Errors
/// When this process is out of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Receives one packet into `buffer`, waiting if `flags` and the socket allow it.
///
/// # Errors
/// What `recvmsg(2)` says; `AGAIN` when nothing is there and waiting isn't allowed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let result = loop {
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(received) => Some(received),
            _ => None,
        })
        .flatten()
        .collect();
    let truncated = result.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Received { len: result.bytes, descriptors, truncated })
}

/// Sends one packet. Never raises `SIGPIPE`, so it is safe in a program that embeds the client.
///
/// # Errors
/// What `sendmsg(2)` says; `AGAIN` when the peer's queue is full and waiting isn't allowed.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            // A packet goes whole or not at all.
            other => return other.map(|_| ()),
        }
    }
}
