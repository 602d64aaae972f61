//! Processes that do one thing over and over, all at the same time.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

pub(crate) struct Process(Pid);

impl Process {
    pub(crate) fn end(self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// A copy of this process that does `work` and is gone. This process has one thread.
pub(crate) fn fork(work: impl FnOnce()) -> Process {
    // SAFETY: this process is single-threaded, so that the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => Process(child),
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
            work();
            std::process::exit(0)
        }
    }
}

/// How often per second `clients` processes together do what `work` makes for each, `each` times after a tenth as
/// often for warming up.
pub(crate) fn rate<W: FnMut()>(clients: usize, each: usize, work: impl Fn(usize) -> W) -> f64 {
    let mut processes: Vec<_> = (0..clients)
        .map(|client| {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            let process = fork(|| {
                let mut once = work(client);
                (0..each / 10).for_each(|_| once());
                theirs.write_all(b"r").unwrap();
                theirs.read_exact(&mut [0]).unwrap();
                (0..each).for_each(|_| once());
                theirs.write_all(b"d").unwrap();
                // The parent ends it: what it holds must not be let go of while others are measured.
                theirs.read_exact(&mut [0]).unwrap();
            });
            ours.read_exact(&mut [0]).unwrap();
            (ours, process)
        })
        .collect();
    let began = Instant::now();
    processes.iter_mut().for_each(|(socket, _)| socket.write_all(b"g").unwrap());
    processes.iter_mut().for_each(|(socket, _)| socket.read_exact(&mut [0]).unwrap());
    let rate = (clients * each) as f64 / began.elapsed().as_secs_f64();
    processes.into_iter().for_each(|(_, process)| process.end());
    rate
}
