//! FastCGI's records: eight bytes of header, content, padding. What comes from a worker is taken apart here, and
//! what goes to it is put together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

const HEADER: usize = 8;
const VERSION: u8 = 1;
/// A connection carries one request at a time, always by this number.
const REQUEST: u16 = 1;
/// What one record can hold, less what would need padding.
pub(crate) const MOST: usize = 65_528;
const RESPONDER: u16 = 1;
const KEEP_CONNECTION: u8 = 1;

mod kind {
    pub(super) const BEGIN: u8 = 1;
    pub(super) const END: u8 = 3;
    pub(super) const PARAMS: u8 = 4;
    pub(super) const STDIN: u8 = 5;
    pub(super) const STDOUT: u8 = 6;
    pub(super) const STDERR: u8 = 7;
    /// About the connection, never asked for here.
    pub(super) const VALUES: u8 = 10;
    pub(super) const UNKNOWN: u8 = 11;
}

/// What a worker sent. Streams come in pieces as they arrive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Stdout(Bytes),
    Stderr(Bytes),
    End { status: u32, verdict: Verdict },
}

/// What became of a request, as the worker's FastCGI library tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    CantMultiplex,
    Overloaded,
    UnknownRole,
    /// A number that FastCGI does not know.
    Other(u8),
}

/// Why bytes are no FastCGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Version(u8),
    Kind(u8),
    Request(u16),
    ShortEnd(usize),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "a record is of version {version}, not 1"),
            Self::Kind(kind) => write!(f, "a record is of type {kind}, which no application sends"),
            Self::Request(request) => write!(f, "a record is for request {request}, which was never made"),
            Self::ShortEnd(length) => write!(f, "the record of the end has {length} bytes, not 8"),
        }
    }
}

/// Takes apart what comes from a worker.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// What was read and not looked at yet.
    pub(crate) buffer: BytesMut,
    /// The record that is under way: its kind, and how much of content and padding is still to come.
    kind: u8,
    content: usize,
    padding: usize,
}

impl Records {
    /// The next record, or piece of one; `None`: more has to be read first.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Mistake> {
        loop {
            if self.content > 0 {
                let length = self.content.min(self.buffer.len());
                if length == 0 {
                    return Ok(None);
                }
                self.content -= length;
                let piece = self.buffer.split_to(length).freeze();
                match self.kind {
                    kind::STDOUT => return Ok(Some(Record::Stdout(piece))),
                    kind::STDERR => return Ok(Some(Record::Stderr(piece))),
                    _ => continue,
                }
            }
            let padding = self.padding.min(self.buffer.len());
            self.buffer.advance(padding);
            self.padding -= padding;
            if self.padding > 0 || self.buffer.len() < HEADER {
                return Ok(None);
            }
            let mut header = &self.buffer[..HEADER];
            let (version, kind, request) = (header.get_u8(), header.get_u8(), header.get_u16());
            let (content, padding) = (usize::from(header.get_u16()), usize::from(header.get_u8()));
            match kind {
                _ if version != VERSION => return Err(Mistake::Version(version)),
                kind::END | kind::STDOUT | kind::STDERR if request != REQUEST => return Err(Mistake::Request(request)),
                kind::END if content < HEADER => return Err(Mistake::ShortEnd(content)),
                kind::END if self.buffer.len() < 2 * HEADER => return Ok(None),
                kind::END | kind::STDOUT | kind::STDERR | kind::VALUES | kind::UNKNOWN => {}
                other => return Err(Mistake::Kind(other)),
            }
            self.buffer.advance(HEADER);
            (self.kind, self.content, self.padding) = (kind, content, padding);
            if kind == kind::END {
                self.content -= HEADER;
                let mut end = self.buffer.split_to(HEADER);
                let status = end.get_u32();
                return Ok(Some(Record::End { status, verdict: Verdict::of(end.get_u8()) }));
            }
        }
    }

    /// Nothing came behind what was returned.
    pub(crate) fn is_clean(&self) -> bool {
        self.buffer.is_empty() && self.content == 0 && self.padding == 0
    }
}

impl Verdict {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Complete,
            1 => Self::CantMultiplex,
            2 => Self::Overloaded,
            3 => Self::UnknownRole,
            other => Self::Other(other),
        }
    }
}

/// The records that begin a request: who is asked for what, and over a connection that is kept.
pub(crate) fn begin(params: &Params) -> BytesMut {
    let params = &params.0;
    let records = params.len().div_ceil(MOST) + 3;
    let mut begin = BytesMut::with_capacity(params.len() + records * HEADER);
    put_header(&mut begin, kind::BEGIN, HEADER);
    begin.put_u16(RESPONDER);
    begin.put_u8(KEEP_CONNECTION);
    begin.put_bytes(0, 5);
    for piece in params.chunks(MOST) {
        put_header(&mut begin, kind::PARAMS, piece.len());
        begin.put_slice(piece);
    }
    put_header(&mut begin, kind::PARAMS, 0);
    begin
}

/// The header of a record with this much of the request's body, at most [`MOST`]; of nothing: the body's end.
pub(crate) fn put_stdin(to: &mut BytesMut, length: usize) {
    put_header(to, kind::STDIN, length);
}

fn put_header(to: &mut BytesMut, kind: u8, length: usize) {
    debug_assert!(length <= MOST, "callers cut pieces");
    to.put_u8(VERSION);
    to.put_u8(kind);
    to.put_u16(REQUEST);
    to.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    to.put_u16(0);
}

/// Names and values as FastCGI packs them.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<u8>);

impl Params {
    pub(crate) fn put(&mut self, name: &[u8], value: &[u8]) {
        self.put_length(name.len());
        self.put_length(value.len());
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(value);
    }

    fn put_length(&mut self, length: usize) {
        match u8::try_from(length) {
            Ok(short @ ..128) => self.0.push(short),
            _ => self.0.put_u32(u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let mut record = vec![VERSION, kind, 0, 1];
        record.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        record.extend_from_slice(&[padding, 0]);
        record.extend_from_slice(content);
        record.extend(std::iter::repeat_n(7, padding.into()));
        record
    }

    #[derive(Debug, Default, PartialEq)]
    struct All {
        out: Vec<u8>,
        errors: Vec<u8>,
        end: Option<(u32, Verdict)>,
        mistake: Option<Mistake>,
    }

    /// All that comes out when the bytes arrive in pieces of this size.
    fn read(bytes: &[u8], piece: usize) -> All {
        let mut all = All::default();
        let mut records = Records::default();
        for piece in bytes.chunks(piece) {
            records.buffer.extend_from_slice(piece);
            loop {
                match records.next() {
                    Ok(Some(Record::Stdout(piece))) => all.out.extend_from_slice(&piece),
                    Ok(Some(Record::Stderr(piece))) => all.errors.extend_from_slice(&piece),
                    Ok(Some(Record::End { status, verdict })) => all.end = Some((status, verdict)),
                    Ok(None) => break,
                    Err(mistake) => {
                        all.mistake = Some(mistake);
                        return all;
                    }
                }
            }
        }
        all
    }

    #[test]
    fn records_mean_the_same_in_pieces_of_every_size() {
        let mut bytes = record(kind::STDOUT, b"hello ", 2);
        bytes.extend(record(kind::STDERR, b"a warning", 7));
        bytes.extend(record(kind::VALUES, b"whatever", 0));
        bytes.extend(record(kind::STDOUT, b"world", 0));
        bytes.extend(record(kind::STDOUT, b"", 0));
        bytes.extend(record(kind::END, &[0, 0, 0, 9, 0, 0, 0, 0], 3));
        for piece in 1..=bytes.len() {
            let (out, errors) = (b"hello world".to_vec(), b"a warning".to_vec());
            let end = Some((9, Verdict::Complete));
            assert_eq!(read(&bytes, piece), All { out, errors, end, mistake: None }, "{piece}");
        }
    }

    #[test]
    fn what_is_no_record_is_told_from_one() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n", 99).mistake, Some(Mistake::Version(b'H')));
        assert_eq!(read(&record(kind::STDIN, b"", 0), 99).mistake, Some(Mistake::Kind(5)));
        assert_eq!(read(&record(kind::END, b"1234", 0), 99).mistake, Some(Mistake::ShortEnd(4)));
        assert_eq!(read(&[1, 6, 0, 2, 0, 0, 0, 0], 99).mistake, Some(Mistake::Request(2)));
    }

    #[test]
    fn no_bytes_at_all_make_it_panic_or_hang() {
        // A generator of numbers that is the same each time.
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|at| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let random = state.to_be_bytes()[0];
                    // Mostly what a header could be.
                    if at % 8 == 0 { 1 } else { random % 12 }
                })
                .collect();
            read(&bytes, 1 + usize::from(bytes[1]));
        }
    }

    #[test]
    fn long_values_have_long_lengths_and_go_in_several_records() {
        let mut params = Params::default();
        params.put(b"SHORT", b"1");
        params.put(b"LONG", &vec![b'x'; 70_000]);
        assert_eq!(&params.0[..8], b"\x05\x01SHORT1");
        assert_eq!(&params.0[8..13], &[4, 0x80, 1, 0x11, 0x70]);
        let begin = begin(&params);
        assert_eq!(&begin[..16], &[1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(begin.len(), 16 + 3 * HEADER + params.0.len());
        assert_eq!(&begin[begin.len() - HEADER..], &[1, 4, 0, 1, 0, 0, 0, 0]);
    }
}
