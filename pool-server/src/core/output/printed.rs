//! The last lines that an app printed, whichever of its processes, and who listens to them.

use super::lines::{each_line, printable};
use super::{Source, Stream};
use crate::core::shell::State;
use hatchery_pool::AppId;
use hatchery_protocol::status::OutputLine;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;
use tokio::sync::broadcast;

/// Lines that are kept of an app …
const LINES: usize = 200;
/// … and of their bytes.
const BYTES: usize = 16 * 1024;
/// Lines that a listener may be behind before it loses some.
const BEHIND: usize = 1_024;

/// Kept when the processes are gone; goes with the app.
#[derive(Debug, Default)]
pub(in crate::core) struct Printed(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    /// Those lines, one after another.
    bytes: VecDeque<u8>,
    last: u64,
    /// Made when somebody listens for the first time.
    live: Option<broadcast::Sender<Rc<OutputLine>>>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    number: u64,
    at: f64,
    pid: i32,
    stream: Stream,
    len: usize,
}

impl Line {
    fn shown(self, bytes: &[u8]) -> OutputLine {
        OutputLine {
            number: self.number,
            at: self.at,
            pid: self.pid,
            stream: self.stream.in_the_log().to_owned(),
            line: printable(&String::from_utf8_lossy(bytes)),
        }
    }
}

impl Printed {
    /// Whole lines. Unless somebody listens, they are only copied.
    pub(super) fn add(&self, source: &Source, lines: &[u8]) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut kept = self.0.borrow_mut();
        let kept = &mut *kept;
        let live = kept.live.as_ref().filter(|live| live.receiver_count() > 0);
        for bytes in each_line(lines) {
            kept.last += 1;
            let line = Line { number: kept.last, at, pid: source.pid, stream: source.stream, len: bytes.len() };
            if let Some(live) = live {
                // Who listened may be gone by now.
                let _ = live.send(Rc::new(line.shown(bytes)));
            }
            kept.lines.push_back(line);
            kept.bytes.extend(bytes);
            while kept.lines.len() > LINES || kept.bytes.len() > BYTES {
                let oldest = kept.lines.pop_front().map_or(0, |line| line.len);
                kept.bytes.drain(..oldest);
            }
        }
    }

    /// The last so many, the oldest first.
    fn recent(&self, wanted: usize) -> Vec<OutputLine> {
        let kept = self.0.borrow();
        let skipped = kept.lines.len().saturating_sub(wanted);
        let mut start: usize = kept.lines.range(..skipped).map(|line| line.len).sum();
        let shown = kept.lines.range(skipped..).map(|line| {
            let bytes: Vec<u8> = kept.bytes.range(start..start + line.len).copied().collect();
            start += line.len;
            line.shown(&bytes)
        });
        shown.collect()
    }

    fn follow(&self) -> broadcast::Receiver<Rc<OutputLine>> {
        self.0.borrow_mut().live.get_or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe()
    }
}

impl State {
    /// The last lines that an app printed, the oldest first; a bounded number is kept.
    pub(in crate::core) fn output_lines(&self, app: AppId, wanted: usize) -> Vec<OutputLine> {
        self.apps.get(&app).map(|app| app.printed.recent(wanted)).unwrap_or_default()
    }

    /// All that it prints from now on, until the app is known no more. Who reads too slowly loses the oldest, and is
    /// told how many. `None`: there is no such app.
    pub(in crate::core) fn follow_output(&self, app: AppId) -> Option<broadcast::Receiver<Rc<OutputLine>>> {
        self.apps.get(&app).map(|app| app.printed.follow())
    }

    /// The file that an app started now prints to; `None`: it prints to the log.
    pub(in crate::core) fn output_file(&self, app: AppId) -> Option<PathBuf> {
        self.outputs.path_of(&self.app_name(app))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    fn source(pid: i32, stream: Stream) -> Source {
        Source { app: "shop".into(), pid, role: Role::Worker, stream }
    }

    fn texts(lines: &[OutputLine]) -> Vec<&str> {
        lines.iter().map(|line| line.line.as_str()).collect()
    }

    #[test]
    fn the_last_lines_of_all_processes_are_kept_with_their_origin() {
        let printed = Printed::default();
        printed.add(&source(7, Stream::Out), b"one\ntwo \x1b[31m\n");
        printed.add(&source(8, Stream::Err), b"\n");
        let lines = printed.recent(100);
        assert_eq!(texts(&lines), ["one", "two \\u{1b}[31m", ""]);
        assert_eq!((lines[1].pid, lines[1].stream.as_str(), lines[1].number), (7, "stdout", 2));
        assert_eq!((lines[2].pid, lines[2].stream.as_str()), (8, "stderr"));
        assert_eq!(texts(&printed.recent(1)), [""]);
        assert!(printed.recent(0).is_empty());
    }

    #[test]
    fn of_a_flood_the_end_is_kept() {
        let printed = Printed::default();
        for number in 0..10_000 {
            printed.add(&source(7, Stream::Out), format!("line {number}\n").as_bytes());
        }
        let lines = printed.recent(usize::MAX);
        assert_eq!((lines.len(), lines[LINES - 1].line.as_str(), lines[0].number), (LINES, "line 9999", 9_801));
        printed.add(&source(7, Stream::Out), &[vec![b'a'; 8 * 1024], vec![b'\n']].concat().repeat(3));
        let lines = printed.recent(usize::MAX);
        assert_eq!(lines.iter().map(|line| line.line.len()).collect::<Vec<_>>(), [8 * 1024; 2]);
    }

    #[tokio::test]
    async fn who_follows_gets_every_line_until_the_app_goes() {
        let printed = Printed::default();
        printed.add(&source(7, Stream::Out), b"before\n");
        let mut following = printed.follow();
        printed.add(&source(7, Stream::Out), b"one\ntwo\n");
        assert_eq!(following.recv().await.unwrap().line, "one");
        assert_eq!(following.recv().await.unwrap().number, 3);
        drop(printed);
        assert_eq!(following.recv().await, Err(broadcast::error::RecvError::Closed));
    }
}
