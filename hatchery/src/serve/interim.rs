//! Interim answers (1xx, such as 103 Early Hints) on their way from a worker to a client.
//!
//! hyper's server has no way to send them, so they are written below it: when it flushes with nothing left to write,
//! which it does each time it has waited for an answer, or else right before the final answer, if nothing of an
//! earlier one can still be on its way.

use super::headers;
use hyper::http::HeaderMap;
use hyper::{StatusCode, Version};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may wait for a client that doesn't read, in bytes; more of it is dropped, since nobody has to be told.
const LIMIT: usize = 64 * 1024;

/// The interim answers of one client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Interim(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    /// hyper has written nothing since it last flushed.
    clean: bool,
    /// Whole heads of which nothing was written yet.
    next: Vec<u8>,
    /// The rest of what was begun, and has to be finished before anything else.
    begun: VecDeque<u8>,
}

impl Interim {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Waiting { clean: true, next: Vec::new(), begun: VecDeque::new() })))
    }

    /// To a client of `version`, as soon as it can be written. HTTP/1.0 knows no such answers; that the protocol
    /// changes or a request may go on is not a worker's to say here.
    pub(crate) fn send(&self, version: Version, status: StatusCode, headers: &HeaderMap) {
        if version < Version::HTTP_11 || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut headers = headers.clone();
        headers::for_client(&mut headers, false);
        let mut head =
            format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Interim")).into_bytes();
        for (name, value) in &headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut waiting = self.lock();
        if waiting.next.len() + head.len() <= LIMIT {
            waiting.next.extend_from_slice(&head);
        }
    }

    /// The final answer comes. Behind an earlier one that is not written yet, what waits would come too late.
    pub(crate) fn end(&self) {
        let mut waiting = self.lock();
        if !waiting.clean {
            waiting.next.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's connection, with its interim answers.
#[derive(Debug)]
pub(crate) struct Line<S> {
    stream: S,
    interim: Interim,
}

impl<S: AsyncWrite + Unpin> Line<S> {
    pub(crate) fn new(stream: S, interim: Interim) -> Self {
        Self { stream, interim }
    }

    /// Begins what waits if this is the moment for it, and finishes what was begun.
    fn poll_interim(&mut self, context: &mut Context<'_>, flush: bool) -> Poll<io::Result<()>> {
        let mut waiting = self.interim.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flush || waiting.clean {
            let next = std::mem::take(&mut waiting.next);
            waiting.begun.extend(next);
        }
        while !waiting.begun.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, waiting.begun.as_slices().0))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waiting.begun.drain(..written);
        }
        waiting.clean = flush;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(context, false))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(context, false))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(context, true))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{CONNECTION, LINK};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn hints(interim: &Interim, version: Version) {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, "</style.css>; rel=preload".parse().unwrap());
        headers.insert(CONNECTION, "keep-alive".parse().unwrap());
        interim.send(version, StatusCode::EARLY_HINTS, &headers);
    }

    const HEAD: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";

    #[tokio::test]
    async fn an_interim_answer_goes_out_with_the_next_flush_and_before_what_follows() {
        // Less room than the head needs, so that it goes in pieces.
        let (ours, mut theirs) = duplex(16);
        let interim = Interim::new();
        let mut line = Line::new(ours, interim.clone());
        hints(&interim, Version::HTTP_11);
        let client = tokio::spawn(async move {
            let mut all = String::new();
            theirs.read_to_string(&mut all).await.unwrap();
            all
        });
        line.flush().await.unwrap();
        interim.end();
        line.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(line);
        assert_eq!(client.await.unwrap(), format!("{HEAD}HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[tokio::test]
    async fn with_nothing_on_its_way_it_goes_out_before_a_final_answer_that_follows_at_once() {
        let (ours, mut theirs) = duplex(1024);
        let interim = Interim::new();
        let mut line = Line::new(ours, interim.clone());
        hints(&interim, Version::HTTP_11);
        interim.end();
        line.write_all(b"200").await.unwrap();
        drop(line);
        let mut all = String::new();
        theirs.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, format!("{HEAD}200"));
    }

    #[tokio::test]
    async fn behind_an_answer_that_is_still_written_and_for_old_clients_it_is_dropped() {
        let (ours, mut theirs) = duplex(1024);
        let interim = Interim::new();
        let mut line = Line::new(ours, interim.clone());
        line.write_all(b"the first, ").await.unwrap();
        hints(&interim, Version::HTTP_11);
        interim.end();
        hints(&interim, Version::HTTP_10);
        interim.send(Version::HTTP_11, StatusCode::CONTINUE, &HeaderMap::new());
        line.write_all(b"the second").await.unwrap();
        line.flush().await.unwrap();
        drop(line);
        let mut all = String::new();
        theirs.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "the first, the second");
    }
}
