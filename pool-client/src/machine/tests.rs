//! The machine alone: what the pool says, as packets, against what a client does.

use super::*;
use crate::answer::LABEL;
use hatchery_protocol::codec::Message;
use std::fs::File;

/// A parked connection is a number here.
type Client = Machine<u32>;

fn client() -> Client {
    let mut client = Machine::new();
    client.resume();
    client
}

fn get(request: RequestId) -> ToPool {
    ToPool::Get { request, app_root: b"/srv/shop".to_vec(), options: Box::default(), key: None, label: None }
}

fn fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn tell(client: &mut Client, message: &ToClient) -> Result<Event, Loss> {
    let fds = (0..message.descriptors()).map(|_| fd()).collect();
    client.receive(&codec::encode(message).unwrap(), fds, false)
}

fn said(client: &mut Client) -> Vec<ToPool> {
    client.outbox().drain(..).map(|packet| codec::decode(&packet, Vec::new()).unwrap().0).collect()
}

fn session(request: RequestId, session: u64, lease: u64, fresh: bool) -> ToClient {
    ToClient::Session {
        documents: None,
        request,
        session: SessionId(session),
        lease: LeaseId(lease),
        fresh,
        pid: 7,
        protocol: SessionProtocol::Http,
        transport: Transport::Unix,
    }
}

fn granted(client: &mut Client, request: RequestId) -> (Granted<u32>, ToPool) {
    match client.take(request) {
        Some((Reply::Session(granted), get)) => (granted, get),
        other => panic!("no session: {other:?}"),
    }
}

/// A session over a fresh socket, in use.
fn open(client: &mut Client, number: u64, lease: u64) -> Name {
    let request = client.ask(get).unwrap();
    tell(client, &session(request, number, lease, true)).unwrap();
    let (granted, _) = granted(client, request);
    assert!(matches!(granted.connection, Connection::Fresh(_)));
    client.outbox().clear();
    granted.name
}

fn close(number: u64, how: How) -> ToPool {
    ToPool::Close { session: SessionId(number), how }
}

fn ended(number: u64, lease: u64, why: Ended) -> ToClient {
    ToClient::Ended { session: SessionId(number), lease: LeaseId(lease), why }
}

#[test]
fn each_answer_finds_its_question() {
    let mut client = client();
    let active = client.ask(|request| ToPool::GetActive { request }).unwrap();
    let count = client.ask(|request| ToPool::GetCount { request }).unwrap();
    assert_ne!(active, count);
    assert_eq!(tell(&mut client, &ToClient::Figure { request: count, figure: 2 }), Ok(Event::Answered(count)));
    assert!(client.take(active).is_none());
    assert!(matches!(client.take(count), Some((Reply::Figure(2), _))));
    tell(&mut client, &ToClient::Figure { request: active, figure: 1 }).unwrap();
    assert!(matches!(client.take(active), Some((Reply::Figure(1), _))));
}

#[test]
fn a_kept_connection_carries_the_next_session() {
    let mut client = client();
    let name = open(&mut client, 1, 10);
    client.close(name, How::Kept, Some(42));
    assert_eq!(said(&mut client), [close(1, How::Kept)]);
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (granted, _) = granted(&mut client, request);
    assert!(matches!(granted.connection, Connection::Parked(42)));
}

#[test]
fn a_dead_parked_connection_is_replaced_within_the_session() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    // The pool believes that something is parked here.
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (first, question) = granted(&mut client, request);
    assert!(matches!(first.connection, Connection::Missing));
    client.outbox().clear();
    let again = client.ask_again(question, first.name).unwrap();
    assert_eq!(said(&mut client), [ToPool::Reconnect { request: again, session: SessionId(2) }]);
    tell(&mut client, &session(again, 2, 11, true)).unwrap();
    let (second, _) = granted(&mut client, again);
    assert!(matches!(second.connection, Connection::Fresh(_)));
    client.close(second.name, How::Finished, None);
    assert_eq!(said(&mut client), [close(2, How::Finished)]);
}

#[test]
fn a_session_that_ended_before_it_was_used_is_asked_for_anew() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (first, question) = granted(&mut client, request);
    tell(&mut client, &ended(2, 10, Ended::WorkerGone)).unwrap();
    client.outbox().clear();
    let again = client.ask_again(question, first.name).unwrap();
    assert_eq!(said(&mut client), [get(again)]);
}

#[test]
fn a_refused_fresh_socket_leads_to_a_new_question() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (first, question) = granted(&mut client, request);
    let reconnect = client.ask_again(question, first.name).unwrap();
    tell(&mut client, &ToClient::Refused { request: reconnect, refusal: Refusal::Overloaded }).unwrap();
    let Some((Reply::Refused(..), question)) = client.take(reconnect) else { panic!("no refusal") };
    client.outbox().clear();
    let again = client.ask_again(question, first.name).unwrap();
    assert_eq!(said(&mut client), [get(again)]);
}

#[test]
fn a_forgotten_question_is_cancelled_and_a_session_that_crosses_it_closed() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    client.outbox().clear();
    client.forget(request);
    assert_eq!(said(&mut client), [ToPool::Cancel { request }]);
    assert_eq!(tell(&mut client, &session(request, 1, 10, true)), Ok(Event::Noted));
    assert_eq!(said(&mut client), [close(1, How::Finished)]);
}

#[test]
fn a_parked_connection_that_crosses_a_cancel_stays_parked() {
    let mut client = client();
    let name = open(&mut client, 1, 10);
    client.close(name, How::Kept, Some(42));
    let request = client.ask(get).unwrap();
    client.forget(request);
    client.outbox().clear();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    assert_eq!(said(&mut client), [close(2, How::Kept)]);
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 3, 10, false)).unwrap();
    assert!(matches!(granted(&mut client, request).0.connection, Connection::Parked(42)));
}

#[test]
fn an_answer_that_nobody_took_is_given_back() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 1, 10, true)).unwrap();
    client.outbox().clear();
    client.forget(request);
    assert_eq!(said(&mut client), [close(1, How::Finished)]);
}

#[test]
fn a_forgotten_reconnect_closes_its_session() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (first, question) = granted(&mut client, request);
    let again = client.ask_again(question, first.name).unwrap();
    client.outbox().clear();
    client.forget(again);
    assert_eq!(said(&mut client), [close(2, How::Finished)]);
    // Its answer crosses that: stale, and harmless.
    tell(&mut client, &session(again, 2, 10, true)).unwrap();
}

#[test]
fn a_forgotten_call_is_not_cancelled_and_its_answer_is_ignored() {
    let mut client = client();
    let request = client.ask(|request| ToPool::Clear { request }).unwrap();
    client.outbox().clear();
    client.forget(request);
    assert_eq!(said(&mut client), []);
    assert_eq!(tell(&mut client, &ToClient::Done { request }), Ok(Event::Noted));
}

#[test]
fn a_session_that_the_pool_ended_is_not_closed_again() {
    let mut client = client();
    let name = open(&mut client, 1, 10);
    assert_eq!(client.ended(name), None);
    tell(&mut client, &ended(1, 10, Ended::RequestTimedOut)).unwrap();
    assert_eq!(client.ended(name), Some(Ended::RequestTimedOut));
    client.close(name, How::Kept, Some(42));
    assert_eq!(said(&mut client), []);
    assert_eq!(client.take_discarded(), [42]);
    assert_eq!(client.ended(name), None, "it is closed and forgotten");
}

#[test]
fn the_reason_a_session_ended_outlives_its_channel() {
    let mut client = client();
    let (told, untold) = (open(&mut client, 1, 10), open(&mut client, 2, 11));
    tell(&mut client, &ended(1, 10, Ended::PoolEnding)).unwrap();
    client.lost(Loss::Closed);
    assert_eq!(client.ended(told), Some(Ended::PoolEnding));
    assert_eq!(client.ended(untold), Some(Ended::WorkerGone));
    client.close(told, How::Abandoned, None);
    assert_eq!(client.ended(told), Some(Ended::WorkerGone), "nothing is kept of what is closed");
}

#[test]
fn a_lease_that_the_pool_ended_is_discarded() {
    let mut client = client();
    let name = open(&mut client, 1, 10);
    client.close(name, How::Kept, Some(42));
    tell(&mut client, &ended(1, 10, Ended::LeaseEnded)).unwrap();
    assert_eq!(client.take_discarded(), [42]);
    // And one that is not known does no harm.
    tell(&mut client, &ended(99, 99, Ended::LeaseEnded)).unwrap();
}

#[test]
fn after_the_loss_of_the_channel_unanswered_questions_are_asked_again() {
    let mut client = client();
    let in_use = open(&mut client, 1, 10);
    let parked = open(&mut client, 2, 11);
    client.close(parked, How::Kept, Some(42));
    let waiting = client.ask(get).unwrap();
    let answered = client.ask(get).unwrap();
    tell(&mut client, &session(answered, 3, 12, true)).unwrap();
    let call = client.ask(|request| ToPool::GetCount { request }).unwrap();

    client.lost(Loss::Closed);
    assert_eq!(client.take_discarded(), [42]);
    assert_eq!(client.ended(in_use), Some(Ended::WorkerGone));
    assert!(client.take(waiting).is_none());
    // What is asked and closed meanwhile waits, or is nothing to tell.
    client.close(in_use, How::Finished, None);
    let later = client.ask(|request| ToPool::Clear { request }).unwrap();
    assert_eq!(said(&mut client), []);

    client.resume();
    let expected = [get(waiting), get(answered), ToPool::GetCount { request: call }, ToPool::Clear { request: later }];
    assert_eq!(said(&mut client), expected);
    // The new core counts from the start: its session 1 is not the old one.
    tell(&mut client, &session(waiting, 1, 10, true)).unwrap();
    let (new, _) = granted(&mut client, waiting);
    client.close(in_use, How::Finished, None);
    assert_eq!(said(&mut client), []);
    client.close(new.name, How::Finished, None);
    assert_eq!(said(&mut client), [close(1, How::Finished)]);
}

#[test]
fn a_reconnect_that_was_lost_with_the_channel_becomes_a_new_question() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &session(request, 2, 10, false)).unwrap();
    let (first, question) = granted(&mut client, request);
    let again = client.ask_again(question, first.name).unwrap();
    client.lost(Loss::Closed);
    client.resume();
    assert_eq!(said(&mut client), [get(again)]);
    tell(&mut client, &session(again, 1, 10, true)).unwrap();
}

#[test]
fn a_question_that_ends_every_core_is_given_up() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    for _ in 0..LOSSES {
        assert!(client.take(request).is_none());
        client.lost(Loss::Closed);
        client.resume();
    }
    assert!(matches!(client.take(request), Some((Reply::Gone(_), _))));
}

#[test]
fn the_pools_last_words_are_the_reason() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    tell(&mut client, &ToClient::Goodbye { why: "it is evening".into() }).unwrap();
    client.lost(Loss::Closed);
    let Some((Reply::Gone(gone), _)) = client.take(request) else { panic!("not given up") };
    assert_eq!(gone.why, "it is evening");
}

#[test]
fn what_no_pool_would_say_ends_the_channel() {
    type Say = fn(&mut Client) -> Result<Event, Loss>;
    let hostile: [(&str, Say); 9] = [
        ("a question never asked", |client| tell(client, &ToClient::Done { request: RequestId(77) })),
        ("question 0", |client| tell(client, &ToClient::Done { request: RequestId(0) })),
        ("a session for a call", |client| {
            let request = client.ask(|request| ToPool::Clear { request }).unwrap();
            tell(client, &session(request, 1, 1, true))
        }),
        ("a figure for a get", |client| {
            let request = client.ask(get).unwrap();
            tell(client, &ToClient::Figure { request, figure: 1 })
        }),
        ("two answers", |client| {
            let request = client.ask(|request| ToPool::Clear { request }).unwrap();
            tell(client, &ToClient::Done { request }).unwrap();
            tell(client, &ToClient::Done { request })
        }),
        ("one session twice", |client| {
            open(client, 1, 10);
            let request = client.ask(get).unwrap();
            tell(client, &session(request, 1, 11, true))
        }),
        ("a session without its socket", |client| {
            let request = client.ask(get).unwrap();
            client.receive(&codec::encode(&session(request, 1, 1, true)).unwrap(), Vec::new(), false)
        }),
        ("a descriptor too many", |client| {
            let request = client.ask(|request| ToPool::Clear { request }).unwrap();
            client.receive(&codec::encode(&ToClient::Done { request }).unwrap(), vec![fd()], false)
        }),
        ("no message at all", |client| client.receive(b"Hy", Vec::new(), false)),
    ];
    for (what, say) in hostile {
        let mut client = client();
        let waiting = client.ask(get).unwrap();
        let Err(loss) = say(&mut client) else { panic!("{what} was believed") };
        client.lost(loss);
        let Some((Reply::Gone(gone), _)) = client.take(waiting) else { panic!("{what}: the others still wait") };
        assert!(gone.why.starts_with("the pool "), "{what}: {}", gone.why);
    }
}

#[test]
fn a_socket_lost_for_want_of_descriptors_fails_only_its_question() {
    let mut client = client();
    let request = client.ask(get).unwrap();
    client.outbox().clear();
    let packet = codec::encode(&session(request, 1, 1, true)).unwrap();
    assert_eq!(client.receive(&packet, Vec::new(), true), Ok(Event::Answered(request)));
    assert!(matches!(client.take(request), Some((Reply::OutOfDescriptors, _))));
    assert_eq!(said(&mut client), [close(1, How::Finished)]);
}

#[test]
fn a_label_is_cut_between_characters() {
    let mut client = client();
    let name = open(&mut client, 1, 10);
    client.label(name, &"ü".repeat(LABEL));
    assert_eq!(said(&mut client), [ToPool::Label { session: SessionId(1), text: "ü".repeat(LABEL / 2) }]);
    client.label(name, "");
    client.label(name, "only one waits");
    assert_eq!(said(&mut client).len(), 1);
}
