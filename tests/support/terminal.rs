//! A terminal, as far as the command draws in it.

use super::{PATIENCE, processes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// A process in a terminal of its own. Killed when this is dropped.
pub struct Terminal {
    child: Child,
    ours: OwnedFd,
    pub screen: Screen,
}

/// What is seen.
#[derive(Debug)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    line: usize,
    column: usize,
    /// Of a sequence that has not come whole.
    unread: Vec<u8>,
    /// Another screen is shown, which leaves the usual one as it was.
    pub alternate: bool,
    pub cursor_hidden: bool,
    /// Anything was drawn in colours.
    pub coloured: bool,
}

impl Terminal {
    pub fn of(mut command: Command, columns: u16, lines: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other end");
        tcsetwinsize(&ours, size(columns, lines)).expect("its size");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
        let theirs = std::fs::File::options().read(true).write(true).open(name).expect("its other end");
        command.stdin(theirs.try_clone().expect("a descriptor")).stdout(theirs).stderr(Stdio::piped());
        // SAFETY: two system calls; nothing is allocated, and nothing of other threads' is touched.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.env("TERM", "xterm-256color").spawn().expect("hatchery");
        // What the command holds of the terminal is the child's alone: its end is seen.
        drop(command);
        Self { child, ours, screen: Screen::new(columns, lines) }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn press(&self, keys: &str) {
        assert_eq!(rustix::io::write(&self.ours, keys.as_bytes()).expect("keys"), keys.len());
    }

    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.screen = Screen { alternate: self.screen.alternate, ..Screen::new(columns, lines) };
        tcsetwinsize(&self.ours, size(columns, lines)).expect("its size");
    }

    /// Waits until the screen shows this, and returns its line.
    pub fn until(&mut self, words: &str) -> String {
        self.until_line(words, |line| line.contains(words))
    }

    pub fn until_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let by = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.screen.text().into_iter().find(|line| wanted(line)) {
                return line;
            }
            assert!(
                Instant::now() < by,
                "waited {PATIENCE:?} in vain for {what} in\n{}",
                self.screen.text().join("\n")
            );
            self.read();
        }
    }

    /// Its end, and what it said on standard error.
    pub fn ended(&mut self) -> (ExitStatus, String) {
        let by = Instant::now() + PATIENCE;
        let status = loop {
            self.read();
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < by, "it does not end:\n{}", self.screen.text().join("\n"));
        };
        while self.read() {}
        let mut said = String::new();
        let error = self.child.stderr.as_mut().expect("a pipe");
        std::io::Read::read_to_string(error, &mut said).expect("text");
        (status, said)
    }

    /// Lines are edited and shown as they are typed, as a shell wants it.
    pub fn is_a_shells(&self) -> bool {
        let modes = tcgetattr(&self.ours).expect("a terminal").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Draws what has come within a moment, if anything.
    fn read(&mut self) -> bool {
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut came = [PollFd::new(&self.ours, PollFlags::IN)];
        if !poll(&mut came, Some(&moment)).is_ok_and(|count| count > 0) {
            return false;
        }
        let mut bytes = [0; 4096];
        // An error: nobody has the other end any more.
        let Ok(count) = rustix::io::read(&self.ours, &mut bytes) else { return false };
        self.screen.draw(&bytes[..count]);
        count > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            processes::kill(self.pid(), nix::sys::signal::Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Screen {
    fn new(columns: u16, lines: u16) -> Self {
        Self {
            lines: vec![vec![' '; columns.into()]; lines.into()],
            line: 0,
            column: 0,
            unread: Vec::new(),
            alternate: false,
            cursor_hidden: false,
            coloured: false,
        }
    }

    /// Its lines, without the spaces behind them.
    pub fn text(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn draw(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.unread);
        let (text, rest) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) => {
                let (whole, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(whole).expect("it is valid so far"), rest)
            }
        };
        let mut left = text;
        while let Some(character) = left.chars().next() {
            if character != '\u{1b}' {
                self.put(character);
                left = &left[character.len_utf8()..];
                continue;
            }
            let Some(length) = sequence(left) else { break };
            self.obey(&left[..length]);
            left = &left[length..];
        }
        self.unread = [left.as_bytes(), rest].concat();
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.line = (self.line + 1).min(self.lines.len() - 1),
            character if character.is_control() => {}
            character => {
                if let Some(cell) = self.lines[self.line].get_mut(self.column) {
                    *cell = character;
                    self.column += 1;
                }
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        let Some(inside) = sequence.strip_prefix("\x1b[") else { return };
        let (parameters, last) = inside.split_at(inside.len() - 1);
        let numbers: Vec<usize> = parameters.split(';').map(|number| number.parse().unwrap_or(0)).collect();
        match (last, parameters) {
            ("H", _) => {
                let at = |place: usize| numbers.get(place).copied().unwrap_or(1).max(1) - 1;
                (self.line, self.column) = (at(0).min(self.lines.len() - 1), at(1));
            }
            ("J", "2") => self.lines.iter_mut().for_each(|line| line.fill(' ')),
            ("J", _) => {
                self.clear_line();
                self.lines[self.line + 1..].iter_mut().for_each(|line| line.fill(' '));
            }
            ("K", _) => self.clear_line(),
            ("m", _) => self.coloured |= numbers.iter().any(|number| matches!(number, 30..=38 | 90..=97)),
            ("h" | "l", "?1049") => self.alternate = last == "h",
            ("h" | "l", "?25") => self.cursor_hidden = last == "l",
            _ => {}
        }
    }

    fn clear_line(&mut self) {
        let from = self.column.min(self.lines[self.line].len());
        self.lines[self.line][from..].fill(' ');
    }
}

/// How long the sequence is that a text begins with, if it is there as a whole.
fn sequence(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    match bytes.next()? {
        (_, b'[') => bytes.find(|(_, byte)| (0x40..=0x7e).contains(byte)).map(|(last, _)| last + 1),
        (last, _) => Some(last + 1),
    }
}
