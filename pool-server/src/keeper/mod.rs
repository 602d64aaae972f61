//! The keeper: mechanism only, in one thread, with `poll` as its only wait.
//!
//! | file | holds |
//! | --- | --- |
//! | `start.rs` | from an executed program to a keeper with an open door |
//! | `users.rs` | whom core and front end of a privileged pool become |
//! | `access.rs` | who may use the admin socket |
//! | `folders.rs` | the folders for the output of apps and for what is remembered |
//! | `errand.rs` | a short-lived child that does what could hang |
//! | `serve.rs` | the loop: what comes from the core, the spawner and the kernel |
//! | `permitted.rs` | what core and spawner may say, and when |
//! | `workers.rs` | every worker process: its parent, killer and reaper |
//! | `reload.rs` | another configuration, while the pool runs |
//! | `exposure.rs` | whether a file is root's alone to change |
//! | `marks.rs` | whose a process is that somebody left |
//! | `cgroup.rs` | the control group that a worker may be alone in |
//! | `roles.rs` | starting core and spawner |
//! | `link.rs` | the keeper's end of a link |
//! | `signals.rs` | TERM and CHLD as something to poll |

mod access;
mod cgroup;
mod errand;
mod exposure;
mod folders;
mod link;
mod marks;
mod permitted;
mod reload;
mod roles;
mod serve;
mod signals;
mod start;
mod users;
mod workers;

pub(crate) use start::{main, start};
