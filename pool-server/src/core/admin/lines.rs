//! Lines from a connection, and answers to it.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest line with its end, in bytes.
pub(super) const LONGEST_LINE: usize = 4096;
/// Most lines are short, and most connections say nothing.
const BUFFER: usize = 512;
/// How long somebody may read nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Whatever bytes they were.
    Line(Vec<u8>),
    TooLong,
    /// Nothing more comes.
    End,
}

#[derive(Debug)]
pub(super) struct Lines<R = OwnedReadHalf> {
    read: BufReader<R>,
    /// What came of a line whose end did not come yet.
    half: Vec<u8>,
}

impl<R: tokio::io::AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(read: R) -> Self {
        Self { read: BufReader::with_capacity(BUFFER, read), half: Vec::new() }
    }

    /// The next one. Nothing is lost if this is dropped before it is done.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            let came = match self.read.fill_buf().await {
                Ok([]) | Err(_) if self.half.is_empty() => return Heard::End,
                // The end of the connection is the end of a line.
                Ok([]) | Err(_) => return Heard::Line(std::mem::take(&mut self.half)),
                Ok(came) => came,
            };
            let end = came.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(came.len(), |end| end + 1);
            if self.half.len() + length > LONGEST_LINE || end.is_none() && self.half.len() + length == LONGEST_LINE {
                return Heard::TooLong;
            }
            self.half.extend(&came[..length]);
            self.read.consume(length);
            if end.is_some() {
                return Heard::Line(std::mem::take(&mut self.half));
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Out(pub(super) OwnedWriteHalf);

impl Out {
    /// # Errors
    /// Nobody reads, or nobody is there.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let written = tokio::time::timeout(PATIENCE, self.0.write(left)).await;
            match written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => left = &left[written..],
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    async fn heard(said: &[u8]) -> Vec<Heard> {
        let (mut ours, theirs) = duplex(64);
        let said = said.to_vec();
        let say = async move {
            // It may be ended before all is said.
            let _ = ours.write_all(&said).await;
        };
        let hear = async move {
            let mut lines = Lines::new(theirs);
            let mut heard = Vec::new();
            while !matches!(heard.last(), Some(Heard::End | Heard::TooLong)) {
                heard.push(lines.next().await);
            }
            heard
        };
        tokio::join!(say, hear).1
    }

    fn line(text: &[u8]) -> Heard {
        Heard::Line(text.to_vec())
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_the_last_needs_no_end() {
        assert_eq!(
            heard(b"a\n\nb\r\n\xff\0c").await,
            [line(b"a\n"), line(b"\n"), line(b"b\r\n"), line(b"\xff\0c"), Heard::End]
        );
        assert_eq!(heard(b"").await, [Heard::End]);
    }

    #[tokio::test]
    async fn a_line_is_4096_bytes_with_its_end_at_most() {
        let longest = [vec![b'x'; LONGEST_LINE - 1], b"\n".to_vec()].concat();
        assert_eq!(heard(&longest).await, [line(&longest), Heard::End]);
        for too_long in [vec![b'x'; LONGEST_LINE], [vec![b'x'; LONGEST_LINE], b"\nhelp\n".to_vec()].concat()] {
            assert_eq!(heard(&too_long).await, [Heard::TooLong]);
        }
    }

    #[tokio::test]
    async fn half_a_line_is_not_lost_when_nobody_waits_for_the_rest() {
        let (mut ours, theirs) = duplex(64);
        let mut lines = Lines::new(theirs);
        ours.write_all(b"sta").await.unwrap();
        tokio::select! {
            biased;
            heard = lines.next() => panic!("{heard:?}"),
            () = tokio::task::yield_now() => {}
        }
        ours.write_all(b"tus\n").await.unwrap();
        assert_eq!(lines.next().await, line(b"status\n"));
    }
}
