//! A short-lived child that does what could hang, or becomes another user: the user database may be a server that is
//! down, a folder may be on one.

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long an errand may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a killed one may take to be gone; one that hangs in the kernel is reaped by the keeper's loop later.
const DYING: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(super) enum ErrandError {
    #[error("a child process could not be made: {0}")]
    Start(#[from] io::Error),
    #[error("it took longer than {} s", LIMIT.as_secs())]
    Slow,
    #[error("the child process that was to do it ended early")]
    Ended,
}

/// Does `work` in a child and brings back what it returns. The child does not outlive this.
///
/// # Errors
/// [`ErrandError`]
pub(super) fn run<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> T) -> Result<T, ErrandError> {
    within(LIMIT, work)
}

fn within<T: Serialize + DeserializeOwned>(limit: Duration, work: impl FnOnce() -> T) -> Result<T, ErrandError> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let keeper = getpid();
    // SAFETY: the keeper has one thread, so its child is a whole copy of it and may do anything.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(|| answer(theirs, keeper, work)));
            let status = i32::from(!matches!(done, Ok(Ok(()))));
            // SAFETY: ends the process without dropping what its parent owns.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let answer = read(ours, Instant::now() + limit);
            end(child);
            serde_json::from_slice(&answer?).map_err(|_| ErrandError::Ended)
        }
    }
}

fn answer<T: Serialize>(mouth: OwnedFd, keeper: Pid, work: impl FnOnce() -> T) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != keeper {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut mouth = close_others(mouth)?;
    let answer = serde_json::to_vec(&work()).map_err(io::Error::other)?;
    mouth.write_all(&answer)
}

/// Keeps no descriptor of the keeper's but 0 to 2 and this one: should the child hang, nobody waits for their end.
fn close_others(mouth: OwnedFd) -> io::Result<File> {
    const MOUTH: RawFd = 3;
    // SAFETY: the descriptors closed here belong to values of the parent's that this process never uses or drops
    // again; `MOUTH` is owned by the value that is returned, and by nothing else in this process.
    unsafe {
        let mouth = mouth.into_raw_fd();
        if mouth != MOUTH && libc::dup3(mouth, MOUTH, libc::O_CLOEXEC) == -1 {
            return Err(io::Error::last_os_error());
        }
        if libc::close_range(MOUTH as u32 + 1, u32::MAX, 0) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(MOUTH))
    }
}

/// All that comes until the end.
fn read(pipe: OwnedFd, deadline: Instant) -> Result<Vec<u8>, ErrandError> {
    let mut pipe = File::from(pipe);
    let mut answer = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| ErrandError::Slow)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(ErrandError::Slow),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let mut some = [0; 4096];
        match pipe.read(&mut some)? {
            0 => return Ok(answer),
            read => answer.extend(&some[..read]),
        }
    }
}

fn end(child: Pid) {
    // Its number is its own until it is reaped here.
    let _ = kill(child, Signal::SIGKILL);
    let by = Instant::now() + DYING;
    while waitpid(child, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_finds_comes_back_however_long_it_is() {
        let long = "x".repeat(300_000);
        assert_eq!(run(|| long.clone()).unwrap(), long);
    }

    #[test]
    fn one_that_hangs_is_given_up_and_leaves_no_child() {
        let began = Instant::now();
        let limit = Duration::from_millis(20);
        let error = within(limit, || std::thread::sleep(LIMIT * 2)).unwrap_err();
        assert!(matches!(error, ErrandError::Slow), "{error}");
        assert!(began.elapsed() < LIMIT);
    }

    #[test]
    fn one_that_ends_without_a_word_is_told_from_a_slow_one() {
        // SAFETY: ends the child at once, which owns nothing that its parent doesn't.
        let error = run::<()>(|| unsafe { libc::_exit(3) }).unwrap_err();
        assert!(matches!(error, ErrandError::Ended), "{error}");
    }
}
