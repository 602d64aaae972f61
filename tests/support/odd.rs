//! What few tests ask of [`super::worker`]: answers that are not simply a text.

use super::worker::{Request, Stream};
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections that were accepted so far.
pub static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// What the file `version` in the app's folder said when this worker started.
pub static VERSION: OnceLock<String> = OnceLock::new();

/// What follows an odd answer.
pub enum Then {
    /// It was nothing odd.
    Plain,
    Text(String),
    /// It is written already.
    Keep,
    Close,
}

pub fn answer(request: &Request, stream: &mut dyn Stream) -> Then {
    let query = request.query.as_str();
    match request.path.as_str() {
        "/connections" => Then::Text(CONNECTIONS.load(Ordering::Relaxed).to_string()),
        // An interim answer, and the final one once the file is there.
        "/hints" => {
            let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: close\r\n\r\n");
            wait_for(query);
            Then::Text("waited".into())
        }
        // Once the file is there: a test decides when.
        "/until" => {
            wait_for(query);
            Then::Text("waited".into())
        }
        // Its first process dies of it without an answer; how often it was asked stands in the file.
        "/die-first" => {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(query).expect("a test's file");
            writeln!(file, "{}", std::process::id()).expect("a line");
            if std::fs::read_to_string(query).expect("a test's file").lines().count() == 1 {
                std::process::exit(1);
            }
            Then::Text("survived".into())
        }
        // So many mebibytes more, used and never given back.
        "/leak" => {
            let bytes = query.parse::<usize>().unwrap_or(1) << 20;
            std::mem::forget(vec![1_u8; bytes]);
            Then::Text(std::process::id().to_string())
        }
        // Nobody reaches it any more, and it stays.
        "/deaf" => {
            // SAFETY: descriptor 3 is the listener that this process was given, and is not closed meanwhile.
            let listener = unsafe { std::os::fd::BorrowedFd::borrow_raw(3) };
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndeaf");
            loop {
                std::thread::sleep(Duration::from_secs(600));
            }
        }
        // Its version and the body, whatever happened to the folder since.
        "/version" => Then::Text(format!("{} {}", VERSION.get().map_or("", String::as_str), request.body)),
        "/abort" => std::process::abort(),
        // What this process may do with a path.
        "/read" => Then::Text(std::fs::read_to_string(query).unwrap_or_else(|error| format!("refused: {error}"))),
        "/connect" => Then::Text(match std::os::unix::net::UnixStream::connect(query) {
            Ok(_) => "connected".into(),
            Err(error) => format!("refused: {error}"),
        }),
        "/status" => then(stream, &format!("HTTP/1.1 {query} Status\r\nETag: \"a\"\r\n\r\n"), Then::Keep),
        "/empty" => then(stream, &format!("HTTP/1.1 {query} Status\r\nContent-Length: 0\r\n\r\n"), Then::Keep),
        "/to-the-end" => then(stream, "HTTP/1.1 200 OK\r\n\r\nto the end", Then::Close),
        "/nonsense" => then(stream, "nonsense\r\n\r\n", Then::Close),
        // Dies in the middle of an answer.
        "/half" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it");
            wait_for(query);
            std::process::exit(1);
        }
        "/switch" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ";
            let mut open = stream.write_all(head.as_bytes()).is_ok();
            let mut buffer = [0; 1024];
            while open {
                open = match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => false,
                    Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
                };
            }
            then(stream, "bye", Then::Close)
        }
        // Below any prefix.
        path if path.ends_with("/name") => {
            let prefix = request.headers.get("x-forwarded-prefix").map_or("", String::as_str);
            let name = std::env::var("TEST_NAME").unwrap_or_default();
            Then::Text(format!("{name} got {path} with prefix {prefix:?}"))
        }
        _ => Then::Plain,
    }
}

fn wait_for(file: &str) {
    while !Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn then(stream: &mut dyn Stream, text: &str, then: Then) -> Then {
    if stream.write_all(text.as_bytes()).is_ok() { then } else { Then::Close }
}
