//! The claim to a session, apart from its socket.

use crate::blocking;
use crate::client::Shared;
use crate::error::CloseError;
use crate::line::Parked;
use crate::machine::{Granted, Name};
use hatchery_protocol::client::{Documents, Ended, How, SessionId, SessionProtocol, Transport};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a session is closed by once its socket was taken out of it. Dropping it abandons the session.
pub struct Ticket {
    line: AnyLine,
    name: Name,
    pid: i32,
    protocol: SessionProtocol,
    documents: Option<Box<Documents>>,
    transport: Transport,
    open: bool,
}

/// The channel of either shell.
#[derive(Clone)]
pub(crate) enum AnyLine {
    Async(Arc<Shared>),
    Blocking(Arc<blocking::Shared>),
}

macro_rules! line {
    ($self:expr, $line:ident => $result:expr) => {
        match &$self.line {
            AnyLine::Async(shared) => {
                let $line = &shared.line;
                $result
            }
            AnyLine::Blocking(shared) => {
                let $line = &shared.line;
                $result
            }
        }
    };
}

impl Ticket {
    pub(crate) fn new<C>(line: AnyLine, granted: &Granted<C>) -> Self {
        let &Granted { name, pid, protocol, transport, ref documents, .. } = granted;
        Self { line, name, pid, protocol, documents: documents.clone(), transport, open: true }
    }

    /// The session, as the pool names it.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.name.session
    }

    /// The worker's process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What the worker speaks.
    #[must_use]
    pub fn protocol(&self) -> SessionProtocol {
        self.protocol
    }

    /// What a FastCGI worker is to be asked for.
    #[must_use]
    pub fn documents(&self) -> Option<&Documents> {
        self.documents.as_deref()
    }

    /// What kind of socket it is.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Tells the operator what the session is doing, in up to 200 characters. Dropped if the pool does not keep up.
    pub fn label(&self, text: &str) {
        line!(self, line => line.label(self.name, text));
    }

    /// Why the pool ended the session, if it did. What the worker had sent can still be read then.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        line!(self, line => line.ended(self.name))
    }

    /// The exchange is complete, and the connection is to be closed.
    ///
    /// # Errors
    /// In a forked child.
    pub fn finish(self) -> Result<(), CloseError> {
        self.close(How::Finished, None)
    }

    /// The exchange is complete, to the last byte; `socket` is the session's own, and is parked for the next
    /// session at this worker.
    ///
    /// # Errors
    /// In a forked child.
    pub fn keep(self, socket: OwnedFd) -> Result<(), CloseError> {
        self.close(How::Kept, Some(Parked::Fd(socket)))
    }

    /// The exchange is not complete: the worker may still compute.
    pub fn abandon(self) {
        drop(self);
    }

    pub(crate) fn close(mut self, how: How, connection: Option<Parked>) -> Result<(), CloseError> {
        self.open = false;
        if !line!(self, line => line.owner.is_here()) {
            return Err(CloseError::Forked);
        }
        let sent = line!(self, line => line.close(self.name, how, connection));
        if let (false, AnyLine::Blocking(shared)) = (sent, &self.line) {
            shared.send_rest();
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            line!(self, line => line.close(self.name, How::Abandoned, None));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.name.session).field("pid", &self.pid).finish_non_exhaustive()
    }
}
