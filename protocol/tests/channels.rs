//! The channel's promises: order, boundaries, ends, and descriptors that are counted and never leaked.

use hatchery_protocol::channel::{self, Channel, ReceiveError, SendError};
use hatchery_protocol::client::{LeaseId, RequestId, SessionId, SessionProtocol, ToClient, ToPool, Transport};
use hatchery_protocol::codec::{self, DecodeError};
use hatchery_protocol::{memfd, packet};
use rustix::net::SendFlags;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

/// Descriptors are counted for the whole process, so such tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn ends() -> (Channel<ToPool, ToClient>, Channel<ToClient, ToPool>) {
    channel::pair().unwrap()
}

fn session(number: u64, fresh: bool) -> ToClient {
    ToClient::Session {
        documents: None,
        request: RequestId(number),
        session: SessionId(number),
        lease: LeaseId(number),
        fresh,
        pid: 1,
        protocol: SessionProtocol::Http,
        transport: Transport::Unix,
    }
}

fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write.into())
}

// B101
#[test]
fn texts_and_bytes_of_any_kind_arrive_as_they_were() {
    let _turn = TURN.lock();
    let (mut client, mut pool) = ends();
    let roots = [&b""[..], b" ", b"/with space", &[0, 255, 10, 13], &[b'x'; 60_000]];
    for (number, root) in roots.into_iter().enumerate() {
        let request = RequestId(number as u64);
        let sent = ToPool::Get {
            request,
            app_root: root.to_vec(),
            options: Box::default(),
            key: Some(String::new()),
            label: None,
        };
        client.send(&sent).unwrap();
        assert_eq!(pool.receive().unwrap().0, sent);
        pool.send(&ToClient::Done { request }).unwrap();
        assert_eq!(client.receive().unwrap().0, ToClient::Done { request });
    }
}

// B101
#[test]
fn a_mixed_sequence_keeps_its_order_and_each_message_its_descriptors() {
    let _turn = TURN.lock();
    let before = descriptors();
    {
        let (mut client, pool) = ends();
        let (mut read, write) = pipe();
        for number in 0..50 {
            if number % 3 == 0 {
                pool.send_with(&session(number, true), &[write.as_fd()]).unwrap();
            } else {
                pool.send(&session(number, false)).unwrap();
            }
        }
        for number in 0..50 {
            let (message, received) = client.receive().unwrap();
            assert_eq!(message, session(number, number % 3 == 0));
            for descriptor in received {
                let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "close-on-exec from the moment of receipt");
                File::from(descriptor).write_all(b".").unwrap();
            }
        }
        drop(write);
        let mut dots = String::new();
        read.read_to_string(&mut dots).unwrap();
        assert_eq!(dots.len(), 17);
    }
    assert_eq!(descriptors(), before);
}

// B101
#[test]
fn two_processes_talk_both_ways() {
    let _turn = TURN.lock();
    let (ours, theirs) = packet::pair().unwrap();
    // The peer is a copy of this test, which finds its end as standard input.
    let mut peer = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "echoing_peer", "--ignored", "--quiet"])
        .stdin(theirs)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut channel: Channel<ToPool, ToClient> = Channel::new(ours);
    channel.receive_hello().unwrap();
    channel.send_hello().unwrap();
    for number in 0..1000 {
        let request = RequestId(number);
        channel.send(&ToPool::GetCount { request }).unwrap();
        assert_eq!(channel.receive().unwrap().0, ToClient::Figure { request, figure: number });
    }
    let socket = channel.into_fd();
    drop(socket);
    assert!(peer.wait().unwrap().success());
}

#[test]
#[ignore = "is the other process of two_processes_talk_both_ways"]
fn echoing_peer() {
    let end = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut channel: Channel<ToClient, ToPool> = Channel::new(end);
    channel.send_hello().unwrap();
    channel.receive_hello().unwrap();
    loop {
        match channel.receive() {
            Ok((ToPool::GetCount { request }, _)) => {
                channel.send(&ToClient::Figure { request, figure: request.0 }).unwrap();
            }
            Ok((other, _)) => panic!("{other:?}"),
            Err(ReceiveError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

// B101
#[test]
fn the_end_is_seen_at_the_start_and_behind_what_was_sent() {
    let _turn = TURN.lock();
    let (client, mut pool) = ends();
    drop(client);
    assert!(matches!(pool.receive(), Err(ReceiveError::Closed)));
    assert!(matches!(pool.send(&ToClient::Done { request: RequestId(1) }), Err(SendError::Closed)));
    let (client, mut pool) = ends();
    client.send(&ToPool::Clear { request: RequestId(1) }).unwrap();
    drop(client);
    assert!(pool.receive().is_ok());
    assert!(matches!(pool.receive(), Err(ReceiveError::Closed)));
}

#[test]
fn a_descriptor_too_many_or_too_few_ends_the_channel_and_leaks_nothing() {
    let _turn = TURN.lock();
    let before = descriptors();
    {
        let (mut client, pool) = ends();
        let (read, write) = pipe();
        let bytes = codec::encode(&session(1, true)).unwrap();
        for given in [vec![], vec![read.as_fd(), write.as_fd()]] {
            packet::send(&pool, &bytes, &given, SendFlags::empty()).unwrap();
            let got = given.len();
            match client.receive() {
                Err(ReceiveError::Decode(error)) => assert_eq!(error, DecodeError::Descriptors { expected: 1, got }),
                other => panic!("{other:?}"),
            }
        }
        // And behind bytes that are no message at all.
        packet::send(&pool, b"garbage", &[read.as_fd()], SendFlags::empty()).unwrap();
        assert!(matches!(client.receive(), Err(ReceiveError::Decode(DecodeError::NotOurs))));
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn a_packet_over_the_limit_is_refused_by_its_receiver() {
    let _turn = TURN.lock();
    let (client, mut pool) = ends();
    packet::send(&client, &vec![0; codec::MAX_PACKET + 1], &[], SendFlags::empty()).unwrap();
    assert!(matches!(pool.receive(), Err(ReceiveError::Decode(DecodeError::Truncated))));
}

#[test]
fn a_greeting_of_another_version_names_it() {
    let _turn = TURN.lock();
    let (client, mut pool) = ends();
    let mut hello = codec::Hello::ours().encode();
    hello[2] = 9;
    packet::send(&client, &hello, &[], SendFlags::empty()).unwrap();
    let error = pool.receive_hello().unwrap_err().to_string();
    assert!(error.contains("wire version 9"), "{error}");
}

#[test]
fn a_payload_is_read_only_when_it_is_sealed() {
    let _turn = TURN.lock();
    let before = descriptors();
    {
        let sealed = memfd::write(&vec![String::from("a"); 3]).unwrap();
        assert_eq!(memfd::read::<Vec<String>>(&sealed).unwrap().len(), 3);
        assert!(File::from(sealed.try_clone().unwrap()).write_all(b"x").is_err());
        let open: OwnedFd = rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(memfd::read::<u8>(&open), Err(memfd::PayloadError::NotSealed)));
        let (read, _write) = pipe();
        assert!(matches!(memfd::read::<u8>(&read), Err(memfd::PayloadError::NotSealed)));
    }
    assert_eq!(descriptors(), before);
}
