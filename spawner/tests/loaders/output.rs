//! What processes write, for tests to wait for.

use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::harness::PATIENCE;

/// What a process writes, read by a thread of this one.
#[derive(Clone)]
pub(crate) struct Text(Arc<Collected>);

struct Collected {
    written: Mutex<Written>,
    more: Condvar,
    /// Readable once nobody wants to read the rest.
    unwanted: OwnedFd,
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    closed: bool,
}

impl Text {
    pub(crate) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.0.written.lock().unwrap().bytes).into_owned()
    }

    /// Closes the reading end: who writes finds nobody there.
    pub(crate) fn close(&self) {
        rustix::io::write(&self.0.unwanted, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Waits until it contains `part`; all that was written by then.
    pub(crate) fn until(&self, part: &str) -> String {
        self.wait(&format!("until it says {part:?}"), |text, _| text.contains(part))
    }

    /// All of it, once nobody can write any more.
    pub(crate) fn whole(&self) -> String {
        self.wait("until it is closed", |_, closed| closed)
    }

    fn wait(&self, what: &str, enough: impl Fn(&str, bool) -> bool) -> String {
        let by = Instant::now() + PATIENCE;
        let mut written = self.0.written.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&written.bytes).into_owned();
            if enough(&text, written.closed) {
                return text;
            }
            let left = by.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !written.closed, "waited in vain {what}: {text}");
            written = self.0.more.wait_timeout(written, left).unwrap().0;
        }
    }
}

/// A pipe's writing end, and what is written there.
pub(crate) fn pipe() -> (OwnedFd, Text) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let unwanted = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let text = Text(Arc::new(Collected { written: Mutex::default(), more: Condvar::new(), unwanted }));
    let shared = Arc::clone(&text.0);
    std::thread::spawn(move || {
        let mut reader = File::from(reader);
        let mut buffer = [0; 4096];
        loop {
            let mut both = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&shared.unwanted, PollFlags::IN)];
            poll(&mut both, None).unwrap();
            let unwanted = !both[1].revents().is_empty();
            let read = if unwanted { 0 } else { reader.read(&mut buffer).unwrap() };
            let mut written = shared.written.lock().unwrap();
            written.bytes.extend_from_slice(&buffer[..read]);
            written.closed = read == 0;
            shared.more.notify_all();
            if read == 0 {
                return;
            }
        }
    });
    (writer, text)
}
