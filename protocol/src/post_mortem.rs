//! What is kept of a worker that did not leave in peace.

use crate::report::Exit;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PostMortem {
    /// The app's root, as text.
    pub root: String,
    /// The app's name.
    pub app: String,
    pub worker: u64,
    /// 0: it never had a process.
    pub pid: i32,
    pub generation: u64,
    /// When it was gone: seconds since 1970, UTC.
    pub at: f64,
    /// One sentence.
    pub why: String,
    pub exit: Option<Exit>,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    pub age_s: f64,
    /// Sessions so far.
    pub served: u64,
    /// The last that was measured.
    pub memory_bytes: Option<u64>,
    /// Sessions it had when it was given up, or when it died.
    pub sessions: Vec<OpenSession>,
    /// The state of its main process before it was killed, such as `T (stopped)`.
    pub state: Option<String>,
    /// Where its main process waited in the kernel before it was killed.
    pub kernel_stack: Option<String>,
    /// The last lines of its output.
    pub output: String,
}

/// A session at a worker: of a record, at its worker's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    pub id: u64,
    pub age_s: f64,
    /// What the front end said of it.
    pub doing: Option<String>,
}
