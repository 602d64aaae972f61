//! What a service manager is told, systemd or another that speaks its protocol: a datagram to `NOTIFY_SOCKET` when
//! requests are answered, around a reload, at the end, and while all is well if it wants to hear that regularly.

use super::pool::{Pool, Pulse};
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A manager that takes nothing for so long is not waited for.
const SENDING: Duration = Duration::from_secs(1);
/// Besides the time that open requests and the pool have at the end.
const MARGIN: Duration = Duration::from_secs(5);

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Service {
    manager: Option<Manager>,
    /// It wants to hear of us within this time, again and again.
    watchdog: Option<Duration>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Manager {
    address: SocketAddr,
    /// Connected at the start: what is allowed then may be out of reach for the user that this process becomes.
    socket: UnixDatagram,
}

impl Service {
    /// As the environment says. Its variables reach nobody else: a pool begins with a clean environment.
    ///
    /// # Errors
    /// One sentence: somebody waits to be told, and can't be.
    pub(crate) fn of_environment() -> Result<Self, String> {
        let manager = match std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) {
            Some(place) => Some(Manager::at(&place).map_err(|error| {
                format!(
                    "the service manager's socket {}, which NOTIFY_SOCKET names, can't be reached: {error}; start \
                     hatchery without that variable if nobody waits there",
                    place.display()
                )
            })?),
            None => None,
        };
        let watchdog = sd_notify::watchdog_enabled().filter(|time| manager.is_some() && !time.is_zero());
        Ok(Self { manager, watchdog, stopping: AtomicBool::new(false) })
    }

    /// Requests are answered.
    pub(crate) fn ready(&self, what: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {}", line(what)))]);
    }

    /// What the operator says is being read again; [`Self::reloaded`] comes next.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("the service manager is not told of this reload: {error}"),
        }
    }

    /// That is over. `holds`: what was read holds now.
    pub(crate) fn reloaded(&self, holds: bool, what: &str) {
        let serving = format!("serving {}", line(what));
        // For a manager the reload is over either way; it has no word for one that changed nothing.
        let status =
            if holds { serving } else { format!("{serving}, as before: the reload failed, and the log says why") };
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The end has begun, and takes this long at most.
    pub(crate) fn stopping(&self, time: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let time = time.saturating_add(MARGIN);
        let status = format!("ending; open requests have {} s at most", time.as_secs());
        // The crate's own variant ends at 71 minutes.
        let extend = format!("EXTEND_TIMEOUT_USEC={}", u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::Custom(&extend)]);
    }

    /// Says again and again that all is well, while it is, at twice the rate that the manager wants. Ends never.
    ///
    /// All is well while this runtime runs tasks, and the pool answers questions: a pool that hangs is one that nobody
    /// else would start again, whereas one that has ended is started again anyway, and needs a moment for that.
    pub(crate) async fn keep_alive(&self, pool: &Pool) {
        let Some(within) = self.watchdog else { return std::future::pending().await };
        let mut away_since = None;
        let mut next = Instant::now();
        loop {
            next += within / 2;
            let well = match timeout_at(next, tokio::spawn(async {})).await {
                // Nobody but this runtime asks any more, and the pool may be gone.
                Ok(_) if self.stopping.load(Ordering::Relaxed) => true,
                Ok(_) => match pool.pulse(next).await {
                    Pulse::Beats => {
                        away_since = None;
                        true
                    }
                    Pulse::Away => {
                        let since = *away_since.get_or_insert_with(Instant::now);
                        since.elapsed() < super::pool::PATIENCE
                    }
                    Pulse::Missing => false,
                },
                Err(_) => false,
            };
            if well {
                self.tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("the pool does not answer; the service manager is not told that all is well");
            }
            tokio::time::sleep_until(next).await;
            // After a time in which nothing ran, what was missed is not made up for.
            next = next.max(Instant::now());
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(manager) = &self.manager else { return };
        let mut message = String::new();
        for state in states {
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = manager.send(message.as_bytes()) {
            tracing::warn!("the service manager can't be told {}: {error}", message.trim_end().replace('\n', ", "));
        }
    }
}

impl Manager {
    fn at(place: &OsStr) -> io::Result<Self> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(place)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it begins neither with / nor with @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SENDING))?;
        Ok(Self { address, socket })
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self.socket.send(message) {
            Ok(_) => Ok(()),
            // The manager was started anew, and has a socket of the same name.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                self.socket.connect_addr(&self.address)?;
                self.socket.send(message).map(|_| ())
            }
            Err(error) => Err(error),
        }
    }
}

/// As one line: a name can contain anything, and each line of a message is a word of its own.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_line_break_says_nothing_to_the_manager() {
        assert_eq!(line("/srv/a\nMAINPID=1"), "/srv/a MAINPID=1");
    }

    #[test]
    fn a_place_that_is_neither_a_path_nor_abstract_is_an_error() {
        let error = Manager::at(OsStr::new("vsock:2:1234")).unwrap_err();
        assert!(error.to_string().contains("neither with / nor with @"), "{error}");
    }
}
