//! An answer that goes on until the pool is gone, or nobody reads any more.

use super::terminal::closed;
use crate::admin::{self, Until};
use crate::print;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;

/// No line of an answer that goes on is longer.
const LONGEST: u64 = 1 << 20;

/// Prints what `each` makes of each data line.
///
/// # Errors
/// The pool refused, or is gone.
pub(super) fn follow(pool: &UnixStream, question: &str, mut each: impl FnMut(&str) -> String) -> Result<(), String> {
    admin::say(pool, question, Until::Verdict)?;
    let mut lines = BufReader::new(pool);
    while lines.buffer().contains(&b'\n') || is_next(pool)? {
        let mut line = String::new();
        let read = (&mut lines).take(LONGEST).read_line(&mut line);
        if read.map_err(|error| format!("the pool can't be listened to: {error}"))? == 0 {
            return Err("the pool is gone".to_owned());
        }
        let line = line.trim_end_matches('\n');
        match line.strip_prefix("  ") {
            Some(data) => print(&(each(data) + "\n"))?,
            None if line == "ok" => return Ok(()),
            None => return Err(line.strip_prefix("error: ").unwrap_or(line).to_owned()),
        }
    }
    Ok(())
}

/// Waits for the pool's next words; or for whoever reads ours to go, then there is no next.
fn is_next(pool: &UnixStream) -> Result<bool, String> {
    let output = std::io::stdout();
    let mut ends = [PollFd::new(pool, PollFlags::IN), closed(&output)];
    loop {
        match poll(&mut ends, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("the pool can't be listened to: {error}")),
            Ok(_) if !ends[1].revents().is_empty() => return Ok(false),
            Ok(_) => return Ok(true),
        }
    }
}
