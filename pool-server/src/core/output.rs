//! What workers print, line by line: to the log with app and process, and the last of it kept for reports.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

/// A longer line is logged in pieces.
const LONGEST_LINE: usize = 8 * 1024;
/// What is kept of a worker's output, in bytes.
const KEPT: usize = 16 * 1024;

/// The output of one worker: both its streams.
#[derive(Debug)]
pub(super) struct Output {
    app: String,
    /// What is not read yet: until the process has a number, its output waits in the pipes.
    streams: RefCell<Vec<(&'static str, pipe::Receiver)>>,
    last: RefCell<VecDeque<u8>>,
    open: Cell<u8>,
    closed: Notify,
}

impl Output {
    /// # Errors
    /// When the streams can't be registered with the runtime.
    pub(super) fn new(app: String, stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<Rc<Self>> {
        let stdout = pipe::Receiver::from_owned_fd(stdout)?;
        let stderr = pipe::Receiver::from_owned_fd(stderr)?;
        Ok(Rc::new(Self {
            app,
            streams: RefCell::new(vec![("stdout", stdout), ("stderr", stderr)]),
            last: RefCell::default(),
            open: Cell::new(2),
            closed: Notify::new(),
        }))
    }

    /// Reads both streams until the last process that holds them is gone.
    pub(super) fn read_from(self: &Rc<Self>, pid: i32) {
        for (name, stream) in self.streams.take() {
            tokio::task::spawn_local(Rc::clone(self).read(pid, name, stream));
        }
    }

    /// Waits until nobody can print to it any more.
    pub(super) async fn closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// The last of it as text that is safe to print.
    pub(super) fn last(&self) -> String {
        let bytes: Vec<u8> = self.last.borrow().iter().copied().collect();
        String::from_utf8_lossy(&bytes).lines().map(printable).collect::<Vec<_>>().join("\n")
    }

    async fn read(self: Rc<Self>, pid: i32, name: &'static str, mut stream: pipe::Receiver) {
        let mut buffer = Vec::with_capacity(LONGEST_LINE);
        // A flood fills its pipe and blocks its author: each turn reads one buffer, then everybody else is served.
        while let Ok(1..) = stream.read_buf(&mut buffer).await {
            let whole = match buffer.iter().rposition(|byte| *byte == b'\n') {
                Some(newline) => newline + 1,
                None if buffer.len() >= LONGEST_LINE => buffer.len(),
                None => continue,
            };
            self.lines(pid, name, &buffer[..whole]);
            buffer.drain(..whole);
            buffer.reserve(LONGEST_LINE - buffer.len().min(LONGEST_LINE - 1));
            tokio::task::yield_now().await;
        }
        if !buffer.is_empty() {
            self.lines(pid, name, &buffer);
        }
        self.open.set(self.open.get() - 1);
        self.closed.notify_one();
    }

    fn lines(&self, pid: i32, name: &str, bytes: &[u8]) {
        let mut last = self.last.borrow_mut();
        last.extend(bytes);
        let surplus = last.len().saturating_sub(KEPT);
        last.drain(..surplus);
        for line in String::from_utf8_lossy(bytes).lines() {
            tracing::info!(target: "app", app = %self.app, pid, stream = name, "{}", printable(line));
        }
    }
}

/// `line` with its control characters made visible: what an app prints must not command a terminal.
pub(super) fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() && character != '\t' {
            let _ = write!(text, "{}", character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
