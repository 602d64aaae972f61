//! The body of a request, on its way to a worker.

use super::cgi::Length;
use super::pieces::Pieces;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Sleep, sleep, timeout};

/// Bodies that say a length up to this are read before a worker is asked for: so many slow clients with small
/// forms keep no worker busy, and such a request can be sent again.
const WHOLE: u64 = 64 * 1024;
/// How long such a body may take. Nobody but its client waits for it.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may send nothing of a larger one, which keeps a worker.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A body without a length that has to have one is not taken when it is longer.
const LONGEST_SPOOLED: u64 = 1 << 30;

/// Where the body comes from, for as many attempts as it can serve.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Empty,
    Whole(Bytes),
    /// All of it, in a file without a name.
    Spooled(Arc<File>, u64),
    /// Passed on piece by piece; can't be sent again once a piece was taken.
    Stream(Arc<Stream>),
}

#[derive(Debug)]
pub(crate) struct Stream {
    state: AtomicU8,
    /// As it was said.
    length: Option<u64>,
    /// Here whenever no attempt has it.
    body: Mutex<Option<Incoming>>,
}

const UNTOUCHED: u8 = 0;
const BEGUN: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

impl Source {
    /// # Errors
    /// The client left before it had sent a small body, or took too long.
    pub(crate) async fn of(body: Incoming) -> io::Result<Self> {
        if body.is_end_stream() {
            return Ok(Self::Empty);
        }
        if body.size_hint().upper().is_some_and(|length| length <= WHOLE) {
            let whole = timeout(WHOLE_TIMEOUT, body.collect()).await?.map_err(io::Error::other)?;
            return Ok(Self::Whole(whole.to_bytes()));
        }
        let length = body.size_hint().exact();
        Ok(Self::Stream(Arc::new(Stream { state: AtomicU8::new(UNTOUCHED), length, body: Mutex::new(Some(body)) })))
    }

    /// What its length is, as far as that is known. A body of no bytes may have been announced.
    pub(crate) fn length(&self) -> Length {
        match self {
            Self::Empty => Length::None,
            Self::Whole(bytes) => Length::Known(bytes.len() as u64),
            Self::Spooled(_, length) => Length::Known(*length),
            Self::Stream(stream) => stream.length.map_or(Length::Chunked, Length::Known),
        }
    }

    /// Reads the body to its end, so that its length is known.
    ///
    /// # Errors
    /// [`Unspooled`]
    pub(crate) async fn spool(&self) -> Result<Self, Unspooled> {
        let Some(mut body) = self.body() else { return Err(Unspooled::Client) };
        let mut spool = Spool::Memory(Vec::new());
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|_| Unspooled::Client)?.into_data() else { continue };
            length += piece.len() as u64;
            if length > LONGEST_SPOOLED {
                return Err(Unspooled::TooLong);
            }
            spool = match spool {
                Spool::Memory(mut bytes) if length <= WHOLE => {
                    bytes.extend_from_slice(&piece);
                    Spool::Memory(bytes)
                }
                further => spawn_blocking(move || further.put_on_disk(&piece)).await.map_err(io::Error::other)??,
            };
        }
        Ok(match spool {
            Spool::Memory(bytes) if bytes.is_empty() => Self::Empty,
            Spool::Memory(bytes) => Self::Whole(bytes.into()),
            Spool::Disk(file) => Self::Spooled(Arc::new(file), length),
        })
    }

    /// The body for one attempt; `None` if an earlier one has taken of it.
    pub(crate) fn body(&self) -> Option<Upload> {
        match self {
            Self::Empty => Some(Upload::Whole(None)),
            Self::Whole(bytes) => Some(Upload::Whole(Some(bytes.clone()))),
            Self::Spooled(file, length) => Some(Upload::Spooled(Pieces::new(file.clone(), 0, *length))),
            Self::Stream(stream) => {
                let body = stream.lock().take()?;
                Some(Upload::Stream { body: Some(body), stream: stream.clone(), silence: None })
            }
        }
    }

    /// Nothing is left to be read from the client.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Spooled(..) => true,
            Self::Stream(stream) => stream.state.load(Ordering::Acquire) == DONE,
        }
    }

    /// Part of it is gone.
    pub(crate) fn is_begun(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Spooled(..) => false,
            Self::Stream(stream) => stream.state.load(Ordering::Acquire) != UNTOUCHED,
        }
    }

    /// The client left, fell silent, or sent what is no body.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Spooled(..) => false,
            Self::Stream(stream) => stream.state.load(Ordering::Acquire) == FAILED,
        }
    }
}

/// Where a body waits whose length is not known yet.
enum Spool {
    Memory(Vec<u8>),
    Disk(File),
}

impl Spool {
    fn put_on_disk(self, piece: &[u8]) -> io::Result<Self> {
        let mut file = match self {
            Self::Memory(bytes) => {
                let mut file = tempfile::tempfile()?;
                file.write_all(&bytes)?;
                file
            }
            Self::Disk(file) => file,
        };
        file.write_all(piece)?;
        Ok(Self::Disk(file))
    }
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(crate) enum Unspooled {
    /// Its client left, or fell silent.
    Client,
    TooLong,
    /// There is no room for it.
    Disk(io::Error),
}

impl From<io::Error> for Unspooled {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Stream {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.body.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub(crate) enum Upload {
    Whole(Option<Bytes>),
    Spooled(Pieces),
    Stream {
        body: Option<Incoming>,
        stream: Arc<Stream>,
        /// Since the last piece.
        silence: Option<Pin<Box<Sleep>>>,
    },
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Spooled(pieces) => Pin::new(pieces).poll_frame(context),
            Self::Stream { body, stream, silence } => {
                let Some(incoming) = body else { return Poll::Ready(None) };
                let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(context) else {
                    let silence = silence.get_or_insert_with(|| Box::pin(sleep(PIECE_TIMEOUT)));
                    ready!(silence.as_mut().poll(context));
                    stream.set(FAILED);
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                };
                *silence = None;
                stream.set(match &frame {
                    Some(Ok(_)) if !incoming.is_end_stream() => BEGUN,
                    Some(Ok(_)) | None => DONE,
                    Some(Err(_)) => FAILED,
                });
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Spooled(pieces) => pieces.is_end_stream(),
            Self::Stream { body, .. } => body.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Spooled(pieces) => pieces.size_hint(),
            Self::Stream { body, .. } => body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
        }
    }
}

impl Drop for Upload {
    /// An attempt that took nothing leaves the body to the next one.
    fn drop(&mut self) {
        if let Self::Stream { body, stream, .. } = self
            && stream.state.load(Ordering::Acquire) == UNTOUCHED
        {
            *stream.lock() = body.take();
        }
    }
}
