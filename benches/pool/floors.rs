//! The floors: what the kernel does for a checkout, with nothing around it.

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, connect, listen, recv, send, sendmsg, socket_with, socketpair,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::worker;

/// Bytes of a question and of an answer.
const LEN: usize = 64;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Round trips per second of a bare ping-pong between two processes.
pub(crate) fn ping_pong(rounds: usize) -> f64 {
    let (ours, theirs) = pair();
    let peer = super::load::fork(|| {
        let mut buffer = [0; LEN];
        while recv(&theirs, buffer.as_mut_slice(), RecvFlags::empty()).is_ok_and(|(len, _)| len == LEN) {
            send(&theirs, &buffer, SendFlags::NOSIGNAL).unwrap();
        }
    });
    let mut buffer = [0; LEN];
    let began = Instant::now();
    for _ in 0..rounds {
        send(&ours, &buffer, SendFlags::NOSIGNAL).unwrap();
        recv(&ours, buffer.as_mut_slice(), RecvFlags::empty()).unwrap();
    }
    let rate = rounds as f64 / began.elapsed().as_secs_f64();
    peer.end();
    rate
}

/// Checkouts per second by `clients` processes together: each asks, the server connects to that client's worker and
/// answers with the socket, the worker accepts, 200 bytes go each way, the client closes.
pub(crate) fn checkout(clients: usize, each: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let workers: Vec<_> = (0..clients)
        .map(|number| {
            let address = SocketAddrUnix::new(folder.path().join(number.to_string())).unwrap();
            let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&listener, &address).unwrap();
            listen(&listener, 128).unwrap();
            let worker = super::load::fork(|| {
                let mut buffer = [0; 4096];
                loop {
                    let connection = accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
                    while recv(&connection, buffer.as_mut_slice(), RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {
                        send(&connection, &worker::ANSWER, SendFlags::NOSIGNAL).unwrap();
                    }
                }
            });
            (address, worker)
        })
        .collect();
    let pairs: Vec<_> = (0..clients).map(|_| pair()).collect();
    let server =
        super::load::fork(|| serve(&pairs, &workers.iter().map(|(address, _)| address.clone()).collect::<Vec<_>>()));
    let rate = super::load::rate(clients, each, |client| {
        let ours = &pairs[client].0;
        let mut buffer = [0; LEN];
        move || {
            send(ours, &[0; LEN], SendFlags::NOSIGNAL).unwrap();
            let received = hatchery_protocol::packet::receive(ours, &mut buffer, RecvFlags::empty()).unwrap();
            let socket = received.descriptors.into_iter().next().unwrap();
            send(&socket, &worker::REQUEST, SendFlags::NOSIGNAL).unwrap();
            let mut answer = [0; worker::ANSWER.len()];
            recv(&socket, answer.as_mut_slice(), RecvFlags::WAITALL).unwrap();
        }
    });
    server.end();
    workers.into_iter().for_each(|(_, worker)| worker.end());
    rate
}

/// One thread, all clients.
fn serve(pairs: &[(OwnedFd, OwnedFd)], workers: &[SocketAddrUnix]) {
    use rustix::event::epoll;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (number, (_, end)) in pairs.iter().enumerate() {
        epoll::add(&poller, end, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN).unwrap();
    }
    let mut buffer = [0; LEN];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(pairs.len());
    loop {
        events.clear();
        epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let number = event.data.u64() as usize;
            let end = &pairs[number].1;
            recv(end, buffer.as_mut_slice(), RecvFlags::empty()).unwrap();
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            connect(&socket, &workers[number]).unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let given = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&given));
            sendmsg(end, &[IoSlice::new(&buffer)], &mut control, SendFlags::NOSIGNAL).unwrap();
        }
    }
}
