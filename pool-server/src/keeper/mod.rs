//! The keeper: mechanism only, in one thread, with `poll` as its only wait.
//!
//! | file | holds |
//! | --- | --- |
//! | `start.rs` | from an executed program to a keeper with an open door |
//! | `serve.rs` | the loop: what comes from the core, the spawner and the kernel |
//! | `permitted.rs` | what core and spawner may say, and when |
//! | `workers.rs` | every worker process: its parent, killer and reaper |
//! | `roles.rs` | starting core and spawner |
//! | `link.rs` | the keeper's end of a link |

mod link;
mod permitted;
mod roles;
mod serve;
mod start;
mod workers;

pub(crate) use start::{main, start};
