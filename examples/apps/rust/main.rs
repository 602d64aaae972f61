//! An application in Rust: HTTP on descriptor 3, a thread per connection, a request per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn main() -> io::Result<()> {
    if std::env::var("LISTEN_PID").ok() != Some(std::process::id().to_string()) {
        return Err(io::Error::other("nothing listens here; try `hatchery serve` on this folder"));
    }
    // SAFETY: LISTEN_PID says that descriptor 3 was given to this process, and nothing else here uses it.
    let listener = UnixListener::from(unsafe { OwnedFd::from_raw_fd(3) });
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            if let Err(error) = answer(&stream) {
                eprintln!("a request went wrong: {error}");
            }
        });
    }
}

fn answer(mut stream: &UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    for line in reader.by_ref().lines() {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or("/");
    let text = format!("Hello from Rust, process {}, at {path}\n", std::process::id());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close";
    let body = if first.starts_with("HEAD ") { "" } else { &text };
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", text.len())?;
    stream.shutdown(Shutdown::Write)?;
    // A body that nobody reads would break the connection when this end is closed.
    io::copy(&mut reader, &mut io::sink()).map(|_| ())
}
