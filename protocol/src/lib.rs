//! All that crosses a process boundary in Hatchery: the messages, the channels that carry them, and the
//! descriptors that travel along. No policy.
//!
//! A *channel* is a `SOCK_SEQPACKET` socket: one packet is one message with its descriptors, so there are no
//! partial writes, no reassembly, and no doubt about which message a descriptor belongs to.
//!
//! | file | holds |
//! | --- | --- |
//! | [`packet`] | one packet with its descriptors, in and out: the only place that receives descriptors |
//! | [`codec`] | bytes from and to messages; limits |
//! | [`channel`] | a channel with typed ends, blocking; asynchronous with the feature `async` |
//! | [`door`] | front end → keeper: configuration and new channels |
//! | [`client`] | front end ↔ core |
//! | [`link`] | core ↔ keeper ↔ spawner |
//! | [`options`], [`config`], [`report`], [`refusal`], [`status`], [`post_mortem`] | what the messages carry |
//! | [`events`], [`metrics`] | what the operator is told: what happens by its names, and what was counted |
//! | [`keys`], [`units`] | which settings there are by name, and what their values look like |
//! | [`root`] | the name of an app |
//! | [`memfd`] | payloads too large for a packet |
//! | [`mark`] | the environment variables that mark processes, and finding those |
#![forbid(unsafe_code)]

pub mod channel;
pub mod client;
pub mod codec;
pub mod config;
pub mod door;
pub mod events;
pub mod keys;
pub mod link;
pub mod mark;
pub mod memfd;
pub mod metrics;
pub mod options;
pub mod packet;
pub mod post_mortem;
pub mod refusal;
pub mod report;
pub mod root;
pub mod status;
pub mod units;

/// The version of the program, as `Hello` tells it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the wire: raised with every change to what any message looks like. Both ends of a channel
/// are normally the same executable; when they are not, an error names both.
pub const WIRE: u16 = 5;
