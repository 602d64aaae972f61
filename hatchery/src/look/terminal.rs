//! Who reads what is printed: a terminal of some width, or a program.

use hatchery_pool_server::show::Look;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// For standard output: colours only on a terminal that has them, and whose user wants them.
pub(crate) fn look() -> Look {
    let terminal = std::io::stdout().is_terminal();
    Look { colours: terminal && wants_colours(), width: size().map(|(columns, _)| columns) }
}

pub(crate) fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Columns and lines of standard output, if it is a terminal that knows.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Why a pause is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    Over,
    /// INT, TERM or HUP, or nobody reads standard output any more.
    Ended,
}

/// Hears whoever wants an end: by a signal, or by closing the pipe that is written to.
#[derive(Debug)]
pub(super) struct Ends {
    signals: UnixStream,
}

impl Ends {
    /// # Errors
    /// No descriptors.
    pub(super) fn heard() -> Result<Self, String> {
        let ends = || {
            let (signals, said) = UnixStream::pair()?;
            signals.set_nonblocking(true)?;
            for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
                signal_hook::low_level::pipe::register(signal, said.try_clone()?)?;
            }
            Ok(Self { signals })
        };
        ends().map_err(|error: std::io::Error| format!("signals can't be listened to: {error}"))
    }

    /// Waits for as long as this.
    ///
    /// # Errors
    /// It can't be waited.
    pub(super) fn pause(&self, pause: Duration) -> Result<Pause, String> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let output = std::io::stdout();
            let mut heard = [PollFd::new(&self.signals, PollFlags::IN), closed(&output)];
            match poll(&mut heard, Some(&left)) {
                Ok(0) => return Ok(Pause::Over),
                Ok(_) if heard.iter().any(|end| !end.revents().is_empty()) => {
                    // What was said is of no interest.
                    let _ = (&self.signals).read(&mut [0; 16]);
                    return Ok(Pause::Ended);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("it can't be waited: {error}")),
            }
        }
    }
}

/// Told when nobody reads what is written there any more.
pub(super) fn closed(output: &std::io::Stdout) -> PollFd<'_> {
    PollFd::new(output, PollFlags::empty())
}
