//! A WebSocket's client, as far as RFC 6455's own examples go.

use super::front::Front;
use super::http::Browser;

/// A connection at `path` that became a WebSocket.
pub fn open(front: &Front, path: &str) -> Browser {
    let mut browser = front.browser();
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    browser.ask("GET", path, headers);
    let answer = browser.answer_head();
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "{answer:?}");
    browser
}

/// Sends a text of less than 126 bytes.
pub fn say(browser: &mut Browser, text: &str) {
    send(browser, 1, text.as_bytes());
}

fn send(browser: &mut Browser, kind: u8, content: &[u8]) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 126).expect("a short text");
    let mut frame = vec![0x80 | kind, 0x80 | length];
    frame.extend(MASK);
    frame.extend(content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    browser.send(frame);
}

/// Waits for a text of less than 126 bytes.
pub fn hear(browser: &mut Browser) -> String {
    let head = browser.read_exact(1);
    // Lossy text: a byte above 127 is none of its own.
    assert_eq!(head, "\u{fffd}", "the beginning of a frame");
    let length = browser.read_exact(1).into_bytes()[0];
    browser.read_exact(length.into())
}

/// Closes in good order.
pub fn close(mut browser: Browser) {
    send(&mut browser, 8, &1000_u16.to_be_bytes());
    browser.rest();
}
