//! TERM and CHLD as something to poll.

use signal_hook::consts::{SIGCHLD, SIGTERM};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Signals {
    pub(super) pipe: UnixStream,
    term: Arc<AtomicBool>,
    /// A child may have ended.
    pub(super) child: bool,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let term = Arc::default();
        signal_hook::flag::register(SIGTERM, Arc::clone(&term))?;
        signal_hook::low_level::pipe::register(SIGTERM, write.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGCHLD, write)?;
        Ok(Self { pipe, term, child: true })
    }

    /// Empties the pipe. True: TERM came.
    pub(super) fn take(&mut self) -> bool {
        let mut buffer = [0; 64];
        while let Ok(1..) = rustix::io::read(&self.pipe, &mut buffer) {
            self.child = true;
        }
        self.term.swap(false, Ordering::Relaxed)
    }
}
