//! Payloads too large for a packet travel in a sealed memfd: its reader can map or read it at leisure, and
//! nobody can change it meanwhile.

use crate::codec::{self, DecodeError, MAX_PAYLOAD};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Why a payload could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    #[error("a payload could not be kept in memory: {0}")]
    Io(#[from] std::io::Error),
    #[error("a payload is not sealed: its sender could change it while it is read")]
    NotSealed,
    #[error("a payload is no good: {0}")]
    Decode(#[from] DecodeError),
}

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// A sealed memfd holding `value`.
///
/// # Errors
/// When it is too large, or no descriptor or memory is left.
pub fn write<T: Serialize>(value: &T) -> Result<OwnedFd, PayloadError> {
    let bytes = codec::encode_payload(value)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("hatchery", flags).map_err(std::io::Error::from)?);
    file.write_all(&bytes)?;
    fcntl_add_seals(&file, SEALS).map_err(std::io::Error::from)?;
    Ok(file.into())
}

/// The value in a sealed memfd. Reads by position, so that several processes can share the descriptor.
///
/// # Errors
/// When it is no sealed memfd, too large, or holds something else.
pub fn read<T: DeserializeOwned>(fd: impl AsFd) -> Result<T, PayloadError> {
    let fd = fd.as_fd();
    let seals = fcntl_get_seals(fd).map_err(|_| PayloadError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(PayloadError::NotSealed);
    }
    let size = fstat(fd).map_err(std::io::Error::from)?.st_size;
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    if len > MAX_PAYLOAD {
        return Err(DecodeError::TooLong { len, max: MAX_PAYLOAD }.into());
    }
    let file = File::from(fd.try_clone_to_owned()?);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(codec::decode_payload(&bytes)?)
}
