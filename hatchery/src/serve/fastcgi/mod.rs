//! FastCGI below hyper: what hyper writes as HTTP goes out as records, and the records that come back are read by it
//! as HTTP. So framing, keeping a connection, retries and broken answers are what they are for every worker.
//!
//! The codec is our own: the crate `fastcgi-client` sends the whole body of a request before it reads a byte of the
//! answer, so that a program which answers while it reads (or refuses an upload) and the front end would wait for
//! each other; and it doesn't tell a request that was never begun from one that broke off.

mod head;
mod records;

use super::log_line::Lines;
use bytes::{Bytes, BytesMut};
use head::{Head, NotCgi};
use records::{Mistake, Record, Records};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use tokio::io::ReadBuf;

pub(crate) use records::{MOST, Params, Verdict, begin, put_stdin};

/// Why a FastCGI worker gave no answer.
#[derive(Clone, Debug)]
pub(crate) enum Odd {
    /// It took no request.
    Refused(Verdict),
    NoFastcgi(Mistake),
    NoCgi(NotCgi),
    /// The request ended, and there was nothing on its standard output.
    Silent {
        status: u32,
    },
    /// The connection ended before the request did.
    BrokenOff,
    /// Fewer bytes than it had announced.
    TooShort {
        missing: u64,
    },
    /// Bytes that belong to no request.
    Surplus,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Verdict::CantMultiplex) => f.write_str("it is busy with another request of its connection"),
            Self::Refused(Verdict::Overloaded) => f.write_str("it is overloaded"),
            Self::Refused(Verdict::UnknownRole) => f.write_str("it is no FastCGI responder"),
            Self::Refused(verdict) => write!(f, "it refused the request ({verdict:?})"),
            Self::NoFastcgi(mistake) => write!(f, "it does not speak FastCGI: {mistake}"),
            Self::NoCgi(why) => write!(f, "its answer is not CGI: {why}"),
            Self::Silent { status } => write!(f, "it ended with status {status} and wrote nothing to standard output"),
            Self::BrokenOff => f.write_str("it ended the connection in the middle of a request"),
            Self::TooShort { missing } => write!(f, "its body is {missing} bytes shorter than its Content-Length"),
            Self::Surplus => f.write_str("it sent something after the end of a request"),
        }
    }
}

impl std::error::Error for Odd {}

impl From<Odd> for io::Error {
    fn from(odd: Odd) -> Self {
        Self::other(odd)
    }
}

/// How the body of an answer follows.
#[derive(Debug)]
enum Body {
    /// It has none, whatever the program writes.
    None,
    Length(u64),
    Chunked,
}

#[derive(Debug)]
enum Stage {
    /// So much of it is here, and it was looked through up to this line.
    Head {
        read: BytesMut,
        line: usize,
    },
    Body(Body),
    Over,
}

/// One request at a FastCGI worker, from where its bytes are read to where hyper reads.
#[derive(Debug)]
pub(crate) struct Answer {
    records: Records,
    stage: Stage,
    /// For hyper.
    out: VecDeque<Bytes>,
    errors: Lines,
    /// To a HEAD.
    without_body: bool,
    pub(crate) odd: Option<Odd>,
}

impl Answer {
    pub(crate) fn new(without_body: bool, errors: Lines) -> Self {
        let stage = Stage::Head { read: BytesMut::new(), line: 0 };
        Self { records: Records::default(), stage, out: VecDeque::new(), errors, without_body, odd: None }
    }

    /// Where bytes of the worker go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.records.buffer
    }

    /// The worker is done with the request.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The connection can carry another request, as far as that was read.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_over() && self.odd.is_none() && self.records.is_clean()
    }

    /// Nobody reads the answer any more.
    pub(crate) fn discard(&mut self) {
        self.out.clear();
    }

    /// Hands over what is there for hyper; whether that was anything.
    pub(crate) fn fill(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let before = buffer.remaining();
        while let Some(next) = self.out.front_mut() {
            let length = next.len().min(buffer.remaining());
            buffer.put_slice(&next.split_to(length));
            if !next.is_empty() {
                break;
            }
            self.out.pop_front();
        }
        buffer.remaining() < before
    }

    /// Makes HTTP of all records that are here.
    ///
    /// # Errors
    /// The answer is none, or breaks off. What came before is for hyper still.
    pub(crate) fn translate(&mut self) -> Result<(), Odd> {
        if let Some(odd) = &self.odd {
            return Err(odd.clone());
        }
        let translated = self.translate_all();
        self.odd = translated.clone().err();
        translated
    }

    fn translate_all(&mut self) -> Result<(), Odd> {
        loop {
            if self.is_over() {
                return if self.records.is_clean() { Ok(()) } else { self.surplus() };
            }
            match self.records.next().map_err(Odd::NoFastcgi)? {
                Some(Record::Stdout(piece)) => self.written(piece)?,
                Some(Record::Stderr(piece)) => self.errors.take(&piece),
                Some(Record::End { status, verdict }) => self.ended(status, verdict)?,
                None => return Ok(()),
            }
        }
    }

    /// Padding of the last record is none.
    fn surplus(&mut self) -> Result<(), Odd> {
        match self.records.next() {
            Ok(None) if self.records.buffer.is_empty() => Ok(()),
            _ => Err(Odd::Surplus),
        }
    }

    /// The connection ended.
    pub(crate) fn end_of_file(&mut self) -> Result<(), Odd> {
        if self.is_over() {
            return Ok(());
        }
        self.errors.end();
        Err(self.odd.get_or_insert(Odd::BrokenOff).clone())
    }

    fn written(&mut self, piece: Bytes) -> Result<(), Odd> {
        let Stage::Head { read, line } = &mut self.stage else {
            self.pass_on(piece);
            return Ok(());
        };
        read.extend_from_slice(&piece);
        let Some(end) = head::end(read, line) else {
            return if read.len() > head::LONGEST { Err(Odd::NoCgi(NotCgi::TooLong)) } else { Ok(()) };
        };
        let mut read = std::mem::take(read);
        let rest = read.split_off(end);
        let head = Head::parse(&read).map_err(Odd::NoCgi)?;
        let body = match head.length {
            _ if self.without_body || matches!(head.status.as_u16(), 204 | 304) => Body::None,
            Some(length) => Body::Length(length),
            None => Body::Chunked,
        };
        self.out.push_back(head.http(matches!(body, Body::Chunked)));
        self.stage = Stage::Body(body);
        self.pass_on(rest.freeze());
        Ok(())
    }

    fn pass_on(&mut self, mut piece: Bytes) {
        let Stage::Body(body) = &mut self.stage else { return };
        match body {
            Body::None => {}
            Body::Length(left) => {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                self.out.push_back(piece);
            }
            Body::Chunked if piece.is_empty() => {}
            Body::Chunked => {
                self.out.push_back(format!("{:x}\r\n", piece.len()).into());
                self.out.push_back(piece);
                self.out.push_back(Bytes::from_static(b"\r\n"));
            }
        }
    }

    fn ended(&mut self, status: u32, verdict: Verdict) -> Result<(), Odd> {
        self.errors.end();
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if verdict != Verdict::Complete {
            return Err(Odd::Refused(verdict));
        }
        match stage {
            Stage::Head { read, .. } if read.is_empty() => return Err(Odd::Silent { status }),
            Stage::Head { .. } => return Err(Odd::NoCgi(NotCgi::Unfinished)),
            Stage::Body(Body::Length(missing @ 1..)) => return Err(Odd::TooShort { missing }),
            Stage::Body(Body::Chunked) => self.out.push_back(Bytes::from_static(b"0\r\n\r\n")),
            Stage::Body(_) | Stage::Over => {}
        }
        if status != 0 {
            self.errors.say(&format!("the request ended with status {status}"));
        }
        Ok(())
    }
}
