//! What a loader says: at *control*, which its process is started with, and at *announce*, over which a forked worker
//! says who it is. It is app code speaking: everything is bounded, and judged before it is believed.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, UCred, recvmsg, sendmsg,
};
use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// The longest packet in bytes.
const LONGEST: usize = 32 * 1024;
/// A longer text is cut, in bytes.
const LONGEST_TEXT: usize = 4096;
/// The kernel's limit for one message: with room for all of them, none is left behind unseen.
const MAX_DESCRIPTORS: usize = 253;

/// What a loader may say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The app can't be started.
    Failed(Trouble),
    /// The app is loaded: workers can be forked.
    Ready,
    /// The app is loaded, and none can: why.
    Unfit(String),
    /// A forked worker is there.
    Here,
}

/// Why an app can't be started, as its loader tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) cause: Cause,
    /// One sentence: what went wrong.
    pub(crate) problem: String,
    /// One sentence: what to do about it.
    pub(crate) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Syntax,
    /// Something that it needs is not installed.
    Module,
    /// What was named is not there, or is no app.
    Entry,
    Exception,
    /// It left while it was loaded.
    Exit,
    /// The interpreter is not what the loader needs.
    Runtime,
    /// A hook of its own, before or after a fork.
    Hook,
}

/// What one look at a channel brought.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(Said, Option<UCred>),
    Nothing,
    /// No process holds the other end any more.
    End,
    /// No loader says that.
    Nonsense,
}

/// The next packet, if there is one. Who sent it is known where the channel asks for that.
pub(crate) fn hear(channel: impl AsFd) -> Heard {
    let mut buffer = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(&channel, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
            // The other end went with an order unread: what it said before comes next.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Heard::Nothing,
            // Nothing is heard of it any more, be it for want of memory.
            Err(_) => return Heard::End,
            Ok(received) => break received,
        }
    };
    // Descriptors that came along are closed here: a loader sends none.
    let (mut sender, mut strays) = (None, false);
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            _ => strays = true,
        }
    }
    if strays || received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        Heard::Nonsense
    } else if received.bytes == 0 {
        Heard::End
    } else {
        Said::read(&buffer[..received.bytes]).map_or(Heard::Nonsense, |said| Heard::Said(said, sender))
    }
}

/// Tells a preloader to fork a worker with this mark and these descriptors. Never waits.
pub(crate) fn order_fork(control: impl AsFd, mark: &str, descriptors: &[BorrowedFd<'_>; 4]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    send(control, format!("fork\0{mark}").as_bytes(), &mut ancillary)
}

/// Tells a forked worker that it is known. Never waits.
pub(crate) fn let_go(announce: impl AsFd) -> Result<(), Errno> {
    send(announce, b"go", &mut SendAncillaryBuffer::default())
}

fn send(channel: impl AsFd, bytes: &[u8], ancillary: &mut SendAncillaryBuffer<'_, '_, '_>) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&channel, &[IoSlice::new(bytes)], ancillary, flags) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

impl Said {
    fn read(packet: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(packet).ok()?;
        let fields: Vec<&str> = text.split('\0').collect();
        match fields[..] {
            ["ready"] => Some(Self::Ready),
            ["here"] => Some(Self::Here),
            ["unfit", why] => Some(Self::Unfit(shown(why))),
            ["failed", cause, problem, remedy] if !problem.trim().is_empty() => Some(Self::Failed(Trouble {
                cause: Cause::named(cause)?,
                problem: shown(problem),
                remedy: shown(remedy),
            })),
            _ => None,
        }
    }
}

impl Cause {
    fn named(name: &str) -> Option<Self> {
        match name {
            "syntax" => Some(Self::Syntax),
            "module" => Some(Self::Module),
            "entry" => Some(Self::Entry),
            "exception" => Some(Self::Exception),
            "exit" => Some(Self::Exit),
            "runtime" => Some(Self::Runtime),
            "hook" => Some(Self::Hook),
            _ => None,
        }
    }
}

/// What an app says, so that it commands no terminal and fills no log.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        if shown.len() >= LONGEST_TEXT {
            shown.push('…');
            break;
        }
        // A line's direction may not be turned around either.
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || character.is_control() && !matches!(character, '\n' | '\t') {
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::packet;

    fn said(packet: &[u8]) -> Option<Said> {
        Said::read(packet)
    }

    #[test]
    fn what_loaders_say_is_read() {
        assert_eq!(said(b"ready"), Some(Said::Ready));
        assert_eq!(said(b"here"), Some(Said::Here));
        assert_eq!(said(b"unfit\0it runs 2 threads"), Some(Said::Unfit("it runs 2 threads".into())));
        let trouble = Trouble { cause: Cause::Module, problem: "no flask".into(), remedy: "install it".into() };
        assert_eq!(said(b"failed\0module\0no flask\0install it"), Some(Said::Failed(trouble)));
    }

    #[test]
    fn all_else_is_nonsense() {
        for packet in [
            &b"go"[..],
            b"",
            b"ready\0",
            b"unfit",
            b"failed",
            b"failed\0module\0problem",
            b"failed\0module\0problem\0remedy\0more",
            b"failed\0other\0problem\0remedy",
            b"failed\0module\0 \0remedy",
            b"\xff",
        ] {
            assert_eq!(said(packet), None, "{packet:?}");
        }
    }

    #[test]
    fn what_an_app_says_commands_no_terminal_and_is_cut() {
        assert_eq!(shown(" a\x1b[2Jb\n\tc "), "a\\u{1b}[2Jb\n\tc");
        let cut = shown(&"é".repeat(LONGEST));
        assert!(cut.len() < LONGEST_TEXT + 8 && cut.ends_with('…'), "{}", cut.len());
    }

    #[test]
    fn a_packet_that_is_too_long_or_brings_descriptors_is_nonsense() {
        let (ours, theirs) = packet::pair().unwrap();
        packet::send(&theirs, &vec![b'x'; LONGEST + 1], &[], SendFlags::DONTWAIT).unwrap();
        packet::send(&theirs, b"ready", &[theirs.as_fd()], SendFlags::DONTWAIT).unwrap();
        packet::send(&theirs, b"ready", &[], SendFlags::DONTWAIT).unwrap();
        assert!(matches!(hear(&ours), Heard::Nonsense));
        assert!(matches!(hear(&ours), Heard::Nonsense));
        assert!(matches!(hear(&ours), Heard::Said(Said::Ready, None)));
        assert!(matches!(hear(&ours), Heard::Nothing));
        drop(theirs);
        assert!(matches!(hear(&ours), Heard::End));
    }

    #[test]
    fn who_announces_itself_is_told_by_the_kernel() {
        let (ours, theirs) = packet::pair().unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        packet::send(&theirs, b"here", &[], SendFlags::DONTWAIT).unwrap();
        match hear(&ours) {
            Heard::Said(Said::Here, Some(sender)) => assert_eq!(sender.pid, rustix::process::getpid()),
            other => panic!("{other:?}"),
        }
    }
}
