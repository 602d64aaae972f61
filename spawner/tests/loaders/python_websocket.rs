//! WebSockets of ASGI apps through our own server.

use nix::sys::signal::Signal;

use crate::harness::{App, Worker};
use crate::python_asgi::own;
use crate::session::Session;

const APP: &str = r#"
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise TypeError(scope["type"])
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/deny":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/raise":
        raise ValueError("no such luck")
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[-1], "headers": [(b"x-scheme", scope["scheme"].encode())]})
    if scope["path"] == "/bye":
        await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
        return
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("disconnect", message["code"], flush=True)
            return
        await send({"type": "websocket.send", **{name: message[name] for name in ("text", "bytes") if name in message}})
"#;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

fn serving(test: &str) -> Option<(App, Worker)> {
    let app = App::new(&[("pages.py", APP)]);
    let worker = own(test, &app)?;
    Some((app, worker))
}

fn handshake(worker: &Worker, target: &str, more: &str) -> (Session, crate::session::Answer) {
    let mut session = Session::new(worker);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    session.send(request.as_bytes());
    let answer = session.answer("GET");
    (session, answer)
}

fn open(worker: &Worker) -> Session {
    let (session, answer) = handshake(worker, "/echo", "");
    assert_eq!(answer.status, 101);
    session
}

/// A frame as clients send it. `first` is the opcode and its flags.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The next frame of the server: its first byte and payload.
fn next(session: &mut Session) -> (u8, Vec<u8>) {
    let head = session.bytes(2);
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(session.bytes(2).try_into().unwrap())),
        127 => usize::try_from(u64::from_be_bytes(session.bytes(8).try_into().unwrap())).unwrap(),
        length => usize::from(length),
    };
    (head[0], session.bytes(length))
}

fn closed_with(session: &mut Session) -> (u16, String) {
    let (first, payload) = next(session);
    assert_eq!(first, FINAL | CLOSE, "{payload:?}");
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
}

fn close_frame(code: u16) -> Vec<u8> {
    frame(FINAL | CLOSE, &code.to_be_bytes())
}

#[test]
fn a_websocket_is_accepted_with_its_subprotocol_or_denied() {
    let Some((_app, worker)) = serving("websockets") else { return };
    let more = "Sec-WebSocket-Protocol: chat, superchat\r\nX-Forwarded-Proto: https\r\n";
    let (_session, answer) = handshake(&worker, "/echo", more);
    assert_eq!(answer.status, 101);
    // The example of RFC 6455, section 1.3.
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((answer.header("sec-websocket-protocol"), answer.header("x-scheme")), (Some("superchat"), Some("wss")));
    for (target, status) in [("/deny", 403), ("/raise", 500)] {
        let (mut session, answer) = handshake(&worker, target, "");
        assert_eq!(answer.status, status);
        assert!(session.is_closed());
    }
    let mut session = Session::new(&worker);
    session.send(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n");
    let answer = session.answer("GET");
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
}

#[test]
fn messages_of_any_size_and_pieces_go_both_ways() {
    let Some((_app, worker)) = serving("websocket messages") else { return };
    let mut session = open(&worker);
    for length in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let payload = vec![b'x'; length];
        for kind in [TEXT, BINARY] {
            session.send(&frame(FINAL | kind, &payload));
            assert!(next(&mut session) == (FINAL | kind, payload.clone()), "{length}");
        }
    }
    // A ping in the middle of a message is answered in the middle.
    let pieces =
        [frame(TEXT, "gr\u{fc}".as_bytes()), frame(FINAL | PING, b"there?"), frame(0, b""), frame(FINAL, b"ezi")];
    for byte in pieces.concat() {
        session.send(&[byte]);
    }
    assert_eq!(next(&mut session), (FINAL | PONG, b"there?".to_vec()));
    assert_eq!(next(&mut session), (FINAL | TEXT, "gr\u{fc}ezi".into()));
    session.send(&frame(FINAL | PONG, b"unasked"));
    session.send(&frame(FINAL | TEXT, b"still here"));
    assert_eq!(next(&mut session), (FINAL | TEXT, b"still here".to_vec()));
}

#[test]
fn each_side_may_close_a_websocket_and_the_app_learns_how() {
    let Some((_app, worker)) = serving("closing websockets") else { return };
    let mut session = open(&worker);
    session.send(&close_frame(4000));
    assert_eq!(closed_with(&mut session).0, 4000);
    assert!(session.is_closed());
    worker.process.output.until("disconnect 4000\n");
    let mut session = open(&worker);
    session.send(&frame(FINAL | CLOSE, b""));
    assert_eq!(closed_with(&mut session).0, 1000);
    worker.process.output.until("disconnect 1005\n");
    drop(open(&worker));
    worker.process.output.until("disconnect 1006\n");
    let (mut session, _) = handshake(&worker, "/bye", "");
    assert_eq!(closed_with(&mut session), (4001, "bye".into()));
    session.send(&close_frame(4001));
    assert!(session.is_closed());
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_how() {
    let Some((_app, worker)) = serving("broken websockets") else { return };
    let mut unmasked = frame(FINAL | TEXT, b"x");
    unmasked[1] &= 0x7F;
    let too_long = [&[FINAL | BINARY, 0x80 | 127][..], &(16_u64 * 1024 * 1024 + 1).to_be_bytes()].concat();
    for (bytes, code) in [
        (unmasked, 1002),
        (frame(0x40 | FINAL | TEXT, b"x"), 1002),
        (frame(FINAL | 0x3, b"x"), 1002),
        (frame(FINAL, b"x"), 1002),
        ([frame(TEXT, b"x"), frame(TEXT, b"x")].concat(), 1002),
        (frame(PING, b"x"), 1002),
        (frame(FINAL | PING, &[b'x'; 126]), 1002),
        (frame(FINAL | CLOSE, b"x"), 1002),
        (close_frame(1005), 1002),
        (frame(FINAL | TEXT, b"\xff"), 1007),
        (too_long, 1009),
    ] {
        let mut session = open(&worker);
        session.send(&bytes);
        assert_eq!(closed_with(&mut session).0, code, "{bytes:?}");
        session.stream.shutdown(std::net::Shutdown::Write).unwrap();
        session.rest();
        worker.process.output.until(&format!("disconnect {code}\n"));
    }
    open(&worker);
}

#[test]
fn a_worker_that_leaves_closes_its_websockets() {
    let Some((_app, mut worker)) = serving("websockets at the end") else { return };
    let mut session = open(&worker);
    worker.process.signal(Signal::SIGTERM);
    assert_eq!(closed_with(&mut session).0, 1012);
    session.send(&close_frame(1012));
    assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
    assert_eq!(worker.process.output.whole(), "disconnect 1012\n");
    assert_eq!(worker.process.error.whole(), "");
}
