//! What answers mean to whoever asked: the same in both shells.

use crate::error::{CallError, GetError};
use crate::line::Parked;
use crate::machine::{Granted, Reply};
use hatchery_protocol::memfd;
use hatchery_protocol::refusal::Refusal;
use hatchery_protocol::root;
use hatchery_protocol::status::Status;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The name of the app at `root`.
///
/// # Errors
/// One sentence: a relative path without a current folder.
pub(crate) fn normalised(root: &Path) -> Result<Vec<u8>, String> {
    root::name(root).map_err(|error| format!("{}: the current folder is not known: {error}", root.display()))
}

pub(crate) fn judge(reply: Reply<Parked>) -> Result<Granted<Parked>, GetError> {
    match reply {
        Reply::Session(granted) => Ok(granted),
        Reply::Refused(Refusal::SpawnFailed, Some(report)) => Err(spawn_failed(&report)),
        Reply::Refused(refusal, _) => Err(GetError::Refused(refusal)),
        Reply::OutOfDescriptors => Err(GetError::OutOfDescriptors),
        Reply::Gone(gone) => Err(gone.into()),
        // The machine lets only these answers through to a `get`.
        Reply::Done | Reply::Figure(_) | Reply::Status(_) | Reply::Operator(_) => {
            Err(GetError::PoolGone("it sent an answer to another question".into()))
        }
    }
}

/// A label's length in bytes; the pool keeps 200 characters.
pub(crate) const LABEL: usize = 1000;

/// No longer than it may be.
pub(crate) fn label(mut text: String) -> String {
    let end = (0..=LABEL.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

fn spawn_failed(report: &OwnedFd) -> GetError {
    match memfd::read(report) {
        Ok(report) => GetError::SpawnFailed(Box::new(report)),
        Err(_) => GetError::Refused(Refusal::SpawnFailed),
    }
}

fn refused<T>(reply: Reply<Parked>) -> Result<T, CallError> {
    Err(match reply {
        Reply::Refused(Refusal::SpawnFailed, Some(report)) => match memfd::read(&report) {
            Ok(report) => CallError::SpawnFailed(Box::new(report)),
            Err(error) => CallError::Unreadable(error.to_string()),
        },
        Reply::Refused(refusal, _) => CallError::Refused(refusal),
        Reply::OutOfDescriptors => CallError::OutOfDescriptors,
        Reply::Gone(gone) => gone.into(),
        _ => CallError::Unreadable("it is an answer to another question".into()),
    })
}

pub(crate) fn done(reply: Reply<Parked>) -> Result<(), CallError> {
    if let Reply::Done = reply { Ok(()) } else { refused(reply) }
}

pub(crate) fn figure(reply: Reply<Parked>) -> Result<u64, CallError> {
    if let Reply::Figure(figure) = reply { Ok(figure) } else { refused(reply) }
}

pub(crate) fn pid(reply: Reply<Parked>) -> Result<i32, CallError> {
    let figure = figure(reply)?;
    i32::try_from(figure).map_err(|_| CallError::Unreadable(format!("{figure} is no process id")))
}

pub(crate) fn operator(reply: Reply<Parked>) -> Result<OwnedFd, CallError> {
    if let Reply::Operator(socket) = reply { Ok(socket) } else { refused(reply) }
}

pub(crate) fn status(reply: Reply<Parked>) -> Result<Status, CallError> {
    match reply {
        Reply::Status(status) => memfd::read(&status).map_err(|error| CallError::Unreadable(error.to_string())),
        other => refused(other),
    }
}
