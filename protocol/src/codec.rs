//! Bytes from and to messages.
//!
//! A packet begins with a fixed header that every version can read (magic, wire version, kind); behind it is a
//! [`Hello`], which every version can read too, or a message in bincode. Bincode 2.0.1 is its last release;
//! this file is the only one that names it, so that another codec has one place to go. What makes it safe on
//! bytes from another process: the length is checked and the limit set before decoding, trailing bytes are
//! refused, and no message type is recursive or has zero-sized elements (both defeat its limit).

use crate::WIRE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::OwnedFd;

/// Something that travels in one packet.
pub trait Message: Serialize + DeserializeOwned {
    /// How many descriptors travel with it: exactly so many, or the channel can't be trusted any more.
    fn descriptors(&self) -> usize;
}

/// The longest packet in bytes, header included. The kernel's own limit is above 200,000.
pub const MAX_PACKET: usize = 160 * 1024;

/// The longest payload of a memfd in bytes.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

const MAGIC: [u8; 2] = *b"Hy";
const KIND_HELLO: u8 = 0;
const KIND_MESSAGE: u8 = 1;

/// Why bytes are not what they should be. Whoever gets one closes the channel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("the peer does not speak Hatchery's protocol")]
    NotOurs,
    #[error("the peer speaks wire version {theirs}, this program {WIRE}: use executables of one version")]
    Version { theirs: u16 },
    #[error("a message out of turn")]
    OutOfTurn,
    #[error("a malformed message: {0}")]
    Malformed(String),
    #[error("a message of {len} bytes; at most {max} are allowed")]
    TooLong { len: usize, max: usize },
    #[error("a message came with {got} descriptors instead of {expected}")]
    Descriptors { expected: usize, got: usize },
    #[error("a message was truncated: its descriptors or bytes are lost")]
    Truncated,
}

/// The first packet in each direction of a channel. Its form is the same in all versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the program, such as `0.1.0`.
    pub version: String,
    /// The path of its executable.
    pub executable: String,
}

impl Hello {
    /// What this process says of itself.
    #[must_use]
    pub fn ours() -> Self {
        let executable = std::env::current_exe().map_or_else(|_| "?".into(), |path| path.display().to_string());
        Self { version: crate::VERSION.into(), executable }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(KIND_HELLO);
        bytes.extend_from_slice(self.version.as_bytes());
        bytes.push(0);
        bytes.extend(self.executable.bytes().take(4096));
        bytes
    }

    /// Reads a packet that must be of our own wire version.
    ///
    /// # Errors
    /// When it is no `Hello`, or [`DecodeError::Version`].
    pub fn check(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (hello, wire) = Self::decode(bytes)?;
        if wire == WIRE { Ok(hello) } else { Err(DecodeError::Version { theirs: wire }) }
    }

    /// Reads a packet of any version.
    ///
    /// # Errors
    /// When it is no `Hello`; [`DecodeError::Version`] only through [`Hello::check`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, u16), DecodeError> {
        let (wire, kind, body) = split(bytes)?;
        if kind != KIND_HELLO {
            return Err(if wire == WIRE { DecodeError::OutOfTurn } else { DecodeError::Version { theirs: wire } });
        }
        let text = std::str::from_utf8(body).map_err(|_| DecodeError::Malformed("a hello that is no text".into()))?;
        let (version, executable) = text.split_once('\0').unwrap_or((text, "?"));
        Ok((Self { version: version.into(), executable: executable.into() }, wire))
    }
}

fn header(kind: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&WIRE.to_le_bytes());
    bytes.push(kind);
    bytes
}

fn split(bytes: &[u8]) -> Result<(u16, u8, &[u8]), DecodeError> {
    if bytes.len() > MAX_PACKET {
        return Err(DecodeError::TooLong { len: bytes.len(), max: MAX_PACKET });
    }
    match bytes {
        [m0, m1, v0, v1, kind, body @ ..] if [*m0, *m1] == MAGIC => Ok((u16::from_le_bytes([*v0, *v1]), *kind, body)),
        _ => Err(DecodeError::NotOurs),
    }
}

/// The packet for `message`.
///
/// # Errors
/// [`DecodeError::TooLong`] when it would not fit, so that the sender can say which of its parts is too large.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = header(KIND_MESSAGE);
    bincode::serde::encode_into_std_write(message, &mut bytes, bincode::config::standard())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_PACKET {
        return Err(DecodeError::TooLong { len: bytes.len(), max: MAX_PACKET });
    }
    Ok(bytes)
}

/// The message in a packet, with the number of descriptors it came with checked.
///
/// # Errors
/// Whatever is wrong with it. The descriptors are closed then.
pub fn decode<M: Message>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(M, Vec<OwnedFd>), DecodeError> {
    let message: M = decode_without_descriptors(bytes)?;
    let expected = message.descriptors();
    if descriptors.len() != expected {
        return Err(DecodeError::Descriptors { expected, got: descriptors.len() });
    }
    Ok((message, descriptors))
}

/// The message in a packet whose descriptors were lost, the receiver having no room for them: what there is to
/// know of it, so that its sender can be told.
///
/// # Errors
/// Whatever is wrong with it.
pub fn decode_without_descriptors<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    match split(bytes)? {
        (WIRE, KIND_MESSAGE, body) => decode_exactly::<M, MAX_PACKET>(body),
        (WIRE, _, _) => Err(DecodeError::OutOfTurn),
        (theirs, _, _) => Err(DecodeError::Version { theirs }),
    }
}

fn decode_exactly<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX {
        return Err(DecodeError::TooLong { len: bytes.len(), max: MAX });
    }
    let config = bincode::config::standard().with_limit::<MAX>();
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if read != bytes.len() {
        return Err(DecodeError::Malformed(format!("{} bytes too many", bytes.len() - read)));
    }
    Ok(value)
}

/// Bytes for a memfd.
///
/// # Errors
/// [`DecodeError::TooLong`] over [`MAX_PAYLOAD`].
pub fn encode_payload<T: Serialize>(value: &T) -> Result<Vec<u8>, DecodeError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_PAYLOAD {
        return Err(DecodeError::TooLong { len: bytes.len(), max: MAX_PAYLOAD });
    }
    Ok(bytes)
}

/// The value in a memfd's bytes.
///
/// # Errors
/// Whatever is wrong with them.
pub fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_exactly::<T, MAX_PAYLOAD>(bytes)
}
