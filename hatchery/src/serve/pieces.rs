//! Part of a file as a body, read piece by piece where waiting for a disk holds nobody up.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

pub(crate) const PIECE: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Pieces {
    file: Arc<File>,
    at: u64,
    left: u64,
    next: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Pieces {
    pub(crate) fn new(file: Arc<File>, at: u64, length: u64) -> Self {
        Self { file, at, left: length, next: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let next = this.next.get_or_insert_with(|| {
            let (file, at, length) = (this.file.clone(), this.at, this.left.min(PIECE));
            spawn_blocking(move || read(&file, at, length))
        });
        let read = ready!(Pin::new(next).poll(context)).map_err(io::Error::other).and_then(|read| read);
        this.next = None;
        Poll::Ready(Some(read.map(|piece| {
            this.at += piece.len() as u64;
            this.left -= piece.len() as u64;
            Frame::data(piece)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// At least a byte: a file that has become shorter can't be what was promised.
fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = loop {
        match file.read_at(&mut piece, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(read);
    Ok(piece.into())
}
