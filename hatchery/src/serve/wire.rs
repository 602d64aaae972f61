//! A session as hyper's client reads and writes it, whatever its worker speaks.
//!
//! hyper frames both messages. What a worker of another protocol gets in place of the head that hyper writes was
//! prepared from the request; hyper's own head holds no more than what frames the body.

use super::fastcgi::{self, Odd};
use bytes::{Buf, BytesMut};
use hatchery_pool_client::Session;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once of what has to be translated.
const READ: usize = 16 * 1024;
/// Slices of one write: what hyper has, and what goes before.
const SLICES: usize = 65;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// How a request is told.
#[derive(Debug)]
pub(crate) enum Speech {
    Http,
    /// Under this head.
    Session {
        head: BytesMut,
    },
    Fastcgi {
        head: BytesMut,
        body: u64,
        answer: Box<fastcgi::Answer>,
    },
}

/// A session that knows whether it was used.
#[derive(Debug)]
pub(crate) struct Wire {
    session: Session,
    pub(crate) sent: bool,
    pub(crate) received: bool,
    /// The head to come in place of hyper's.
    head: Option<Swap>,
    /// To be written before anything else.
    pending: BytesMut,
    fastcgi: Option<Box<Fastcgi>>,
    /// It reads no more; what it has to say of that may still be read.
    deaf: bool,
}

#[derive(Debug)]
struct Swap {
    head: BytesMut,
    /// So much of the end of hyper's head was seen.
    matched: usize,
}

#[derive(Debug)]
struct Fastcgi {
    answer: fastcgi::Answer,
    /// Of the request's body.
    left: u64,
    /// Of the record that is being written.
    record: usize,
}

impl Wire {
    pub(crate) fn new(session: Session, speech: Speech) -> Self {
        let (head, fastcgi) = match speech {
            Speech::Http => (None, None),
            Speech::Session { head } => (Some(head), None),
            Speech::Fastcgi { mut head, body, answer } => {
                if body == 0 {
                    fastcgi::put_stdin(&mut head, 0);
                }
                (Some(head), Some(Box::new(Fastcgi { answer: *answer, left: body, record: 0 })))
            }
        };
        let head = head.map(|head| Swap { head, matched: 0 });
        Self { session, sent: false, received: false, head, pending: BytesMut::new(), fastcgi, deaf: false }
    }

    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// What was wrong with the answer, if it was no HTTP in the first place.
    pub(crate) fn odd(&self) -> Option<&Odd> {
        self.fastcgi.as_ref().and_then(|fastcgi| fastcgi.answer.odd.as_ref())
    }

    /// Whether the worker is done as soon as hyper has its answer.
    pub(crate) fn is_over(&self) -> bool {
        self.fastcgi.as_ref().is_none_or(|fastcgi| fastcgi.answer.is_over())
    }

    /// Nothing but another request can follow.
    pub(crate) fn is_clean(&self) -> bool {
        !self.deaf && self.fastcgi.as_ref().is_none_or(|fastcgi| fastcgi.answer.is_clean())
    }

    /// Waits until the worker is done with the request, and passes over what it still writes.
    pub(crate) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(fastcgi) = &mut self.fastcgi else { return Poll::Ready(Ok(())) };
            fastcgi.answer.translate()?;
            fastcgi.answer.discard();
            if fastcgi.answer.is_over() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_more(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads what is to be translated.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(fastcgi) = &mut self.fastcgi else { return Poll::Ready(Ok(0)) };
        let buffer = fastcgi.answer.buffer();
        let before = buffer.len();
        buffer.resize(before + READ, 0);
        let mut room = ReadBuf::new(&mut buffer[before..]);
        let read = Pin::new(&mut self.session).poll_read(context, &mut room);
        let length = room.filled().len();
        buffer.truncate(before + length);
        self.received |= length > 0;
        read.map_ok(|()| length)
    }

    /// Takes what of hyper's head is in the slices. `None`: that is over.
    fn swallow(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let swap = self.head.as_mut()?;
        let mut taken = 0;
        for byte in slices.iter().flat_map(|slice| slice.iter()) {
            taken += 1;
            swap.matched = match *byte {
                byte if byte == END_OF_HEAD[swap.matched] => swap.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if swap.matched == END_OF_HEAD.len() {
                self.pending = self.head.take()?.head;
                break;
            }
        }
        Some(taken)
    }

    /// Writes what is pending, then of `slices`, of which nothing may be left to be written.
    fn poll_send(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.pending.is_empty() {
            let mut all = [IoSlice::new(&[]); SLICES];
            all[0] = IoSlice::new(&self.pending);
            let further = slices.len().min(SLICES - 1);
            all[1..=further].copy_from_slice(&slices[..further]);
            let written = ready!(poll_put(&mut self.session, &mut self.deaf, context, &all[..=further]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent |= !self.deaf;
            let ours = written.min(self.pending.len());
            self.pending.advance(ours);
            if written > ours {
                return Poll::Ready(Ok(written - ours));
            }
        }
        if slices.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(poll_put(&mut self.session, &mut self.deaf, context, slices))?;
        self.sent |= written > 0 && !self.deaf;
        Poll::Ready(Ok(written))
    }

    /// Writes of the request's body, in records.
    fn poll_body(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(fastcgi) = &mut self.fastcgi else { return self.poll_send(context, slices) };
        if fastcgi.record == 0 {
            let here: usize = slices.iter().map(|slice| slice.len()).sum();
            let most = usize::try_from(fastcgi.left).unwrap_or(usize::MAX).min(fastcgi::MOST);
            fastcgi.record = here.min(most);
            if fastcgi.record == 0 {
                return self.poll_send(context, &[]);
            }
            fastcgi::put_stdin(&mut self.pending, fastcgi.record);
        }
        let mut part = [IoSlice::new(&[]); SLICES - 1];
        let (mut count, mut room) = (0, fastcgi.record);
        for slice in slices.iter().filter(|slice| !slice.is_empty()).take(SLICES - 1) {
            let length = slice.len().min(room);
            part[count] = IoSlice::new(&slice[..length]);
            (count, room) = (count + 1, room - length);
            if room == 0 {
                break;
            }
        }
        let written = ready!(self.poll_send(context, &part[..count]))?;
        if let Some(fastcgi) = &mut self.fastcgi {
            fastcgi.record -= written;
            fastcgi.left -= written as u64;
            if fastcgi.left == 0 {
                // Goes out with the flush that follows.
                fastcgi::put_stdin(&mut self.pending, 0);
            }
        }
        Poll::Ready(Ok(written))
    }
}

/// Writes as long as somebody reads. A worker may answer before it has read the request, and close: that nobody reads any
/// more is no failure then, and whether it was an answer, reading tells.
fn poll_put(
    session: &mut Session,
    deaf: &mut bool,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if !*deaf {
        match ready!(Pin::new(session).poll_write_vectored(context, slices)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            written => return Poll::Ready(written),
        }
        *deaf = true;
    }
    Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let Some(fastcgi) = &mut this.fastcgi else {
                let before = buffer.filled().len();
                let read = Pin::new(&mut this.session).poll_read(context, buffer);
                this.received |= buffer.filled().len() > before;
                return read;
            };
            let translated = fastcgi.answer.translate();
            // What came before a mistake is read first.
            if fastcgi.answer.fill(buffer) || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            translated?;
            if ready!(this.poll_more(context))? == 0 {
                if let Some(fastcgi) = &mut this.fastcgi {
                    fastcgi.answer.end_of_file()?;
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.swallow(slices) {
            // What takes its place goes out with what follows, or with the flush.
            Some(taken) => Poll::Ready(Ok(taken)),
            None => self.poll_body(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.session.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            ready!(self.poll_send(context, &[]))?;
        }
        Pin::new(&mut self.session).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        Pin::new(&mut self.session).poll_shutdown(context)
    }
}
