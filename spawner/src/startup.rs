//! What must hold before the first message.

use hatchery_protocol::channel::{Channel, ReceiveError, SendError};
use hatchery_protocol::link::{FromSpawner, ToSpawner};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The keeper puts its end of the link here.
const LINK: RawFd = 3;

/// Whether this executable is also the demo app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DemoApp {
    Absent,
    InThisExecutable,
}

/// A spawner that can begin to serve.
#[derive(Debug)]
pub(crate) struct Spawner {
    pub(crate) link: Channel<FromSpawner, ToSpawner>,
    /// Readable after a child of this process ended.
    pub(crate) children: UnixStream,
    pub(crate) basis: Basis,
}

/// What every start of a worker needs to know of this process.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) keeper: i32,
    /// This process may become any user.
    pub(crate) privileged: bool,
    /// This executable, when it is the demo app too: works wherever it lies and whatever became of its path.
    pub(crate) demo_app: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    #[error("this program takes no arguments: the pool-server starts it, and tells it all else (run `pool-server`)")]
    Arguments,
    #[error("this program is started by the pool-server, with their channel at descriptor 3: {0}")]
    ByHand(&'static str),
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error("the pool-server sent no greeting: {0}")]
    Receive(#[from] ReceiveError),
    #[error("the pool-server could not be greeted: {0}")]
    Send(#[from] SendError),
}

pub(crate) fn start(demo_app: DemoApp) -> Result<Spawner, StartupError> {
    // The role's own name is an argument of the executable that has several.
    let arguments = if demo_app == DemoApp::Absent { 1 } else { 2 };
    if std::env::args_os().len() > arguments {
        return Err(StartupError::Arguments);
    }
    let link = take_link()?;
    // The keeper is this process's parent. Should it have ended already, the link says so in a moment.
    let keeper = nix::unistd::getppid().as_raw();
    leave_the_terminal();
    let privileged = rustix::process::geteuid().is_root();
    if privileged {
        // What it holds for a moment, such as other users' sockets, is nobody's to look at. Programs that are
        // executed start anew in this.
        nix::sys::prctl::set_dumpable(false).map_err(|error| StartupError::System {
            what: "this process can't be kept from being traced",
            error: error.into(),
        })?;
    }
    let children = signals().map_err(|error| StartupError::System { what: "signals can't be set up", error })?;
    let demo_app = match demo_app {
        DemoApp::Absent => None,
        DemoApp::InThisExecutable => Some(
            File::open("/proc/self/exe")
                .map_err(|error| StartupError::System { what: "the executable can't be opened", error })?
                .into(),
        ),
    };
    let mut link = Channel::new(link);
    link.send_hello()?;
    link.receive_hello()?;
    Ok(Spawner { link, children, basis: Basis { keeper, privileged, demo_app } })
}

fn take_link() -> Result<OwnedFd, StartupError> {
    // SAFETY: borrowed for these three calls only, which answer EBADF if nothing is there.
    let candidate = unsafe { BorrowedFd::borrow_raw(LINK) };
    match sockopt::socket_type(candidate) {
        Ok(SocketType::SEQPACKET) => {}
        Ok(_) => return Err(StartupError::ByHand("what is there is another kind of socket")),
        Err(rustix::io::Errno::BADF) => return Err(StartupError::ByHand("nothing is there")),
        Err(_) => return Err(StartupError::ByHand("what is there is no socket")),
    }
    if sockopt::socket_domain(candidate) != Ok(AddressFamily::UNIX) {
        return Err(StartupError::ByHand("what is there is another kind of socket"));
    }
    rustix::io::fcntl_setfd(candidate, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| StartupError::System { what: "descriptor 3 can't be used", error: error.into() })?;
    // SAFETY: it was just seen to be an open socket, and nothing in this process owns it: the process was started
    // with it, and has opened nothing since.
    Ok(unsafe { OwnedFd::from_raw_fd(LINK) })
}

/// A terminal's Ctrl-C and hang-up, and a service manager's TERM, hit whole groups: the keeper decides.
fn leave_the_terminal() {
    // Fails only for who leads a session already.
    let _ = rustix::process::setsid();
    // No folder is kept from being unmounted. The root can always be entered.
    let _ = std::env::set_current_dir("/");
}

fn signals() -> io::Result<UnixStream> {
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    }
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(libc::SIGCHLD, write)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(read)
}
