//! `hatchery serve` as process 1, as in a container: every orphan becomes its child and waits to be reaped, and what a
//! signal does without a handler, it does not do to process 1.

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use std::sync::{Mutex, PoisonError};
use tokio::signal::unix::{SignalKind, signal};

/// What process 1 has to do besides, if this is it.
#[derive(Debug)]
pub(crate) struct Init {
    is_first: bool,
    /// Held while children are reaped, and while a pool is started, which waits for a child of its own.
    children: Mutex<()>,
}

impl Init {
    /// Only at the start, in the only thread. Signals that come before [`Self::listen`] wait until then: without a
    /// handler they would be lost to process 1, and whoever stops a container that just starts would wait in vain.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn begin() -> Result<Self, String> {
        let init = Self { is_first: std::process::id() == 1, children: Mutex::new(()) };
        if init.is_first {
            heard().thread_block().map_err(|errno| format!("signals can't be held back: {errno}"))?;
        }
        Ok(init)
    }

    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Once there are handlers.
    pub(crate) fn listen(&self) -> std::io::Result<()> {
        if self.is_first {
            heard().thread_unblock()?;
        }
        Ok(())
    }

    /// Does what starts processes and waits for them itself; no child is reaped by others meanwhile.
    pub(crate) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Reaps whatever ends. Ends never.
    pub(crate) async fn reap(&self) {
        let mut ended = match signal(SignalKind::child()) {
            Ok(ended) if self.is_first => ended,
            Ok(_) => return std::future::pending().await,
            Err(error) => {
                tracing::error!("ended processes can't be reaped: {error}");
                return std::future::pending().await;
            }
        };
        loop {
            // One signal may stand for many ends, and some were before there was a handler.
            tokio::task::block_in_place(|| self.undisturbed(reap_all));
            ended.recv().await;
        }
    }
}

/// What has a meaning for `hatchery serve`.
fn heard() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect()
}

fn reap_all() {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => tracing::debug!(%pid, status = status.as_raw(), "an orphan was reaped"),
            Ok(None) | Err(Errno::CHILD) => return,
            Err(Errno::INTR) => {}
            Err(errno) => return tracing::warn!("ended processes can't be reaped: {errno}"),
        }
    }
}
