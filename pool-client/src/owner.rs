//! Handles belong to the process that made them. A fork copies their memory, but the descriptors behind them
//! are shared with the parent: what a child did with them would happen to the parent.

use std::mem;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The process that made a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(rustix::process::Pid);

impl Owner {
    pub(crate) fn this_process() -> Self {
        Self(rustix::process::getpid())
    }

    /// Whether this is still that process, not a fork of it.
    pub(crate) fn is_here(self) -> bool {
        rustix::process::getpid() == self.0
    }
}

/// A socket that is registered with a runtime. In a forked child, dropping it closes the child's descriptor and
/// does nothing else: tokio would take it out of the epoll instance, which child and parent share.
#[derive(Debug)]
pub(crate) struct Local<T: AsRawFd> {
    // Always there until dropped or taken.
    value: Option<T>,
    owner: Owner,
}

impl<T: AsRawFd> Local<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), owner: Owner::this_process() }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.value.take().expect("a value until it is dropped")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a value until it is dropped")
    }
}

impl<T: AsRawFd> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a value until it is dropped")
    }
}

#[allow(unsafe_code, reason = "the one place: a descriptor is closed behind its owner")]
impl<T: AsRawFd> Drop for Local<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if self.owner.is_here() {
            return drop(value);
        }
        let fd = value.as_raw_fd();
        mem::forget(value);
        // SAFETY: `value` owned this descriptor and was forgotten, so it is closed here and nowhere else.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
