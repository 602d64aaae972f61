//! Starts a Hatchery pool from a web server, and gets sessions with its applications.
//!
//! A *session* is a connected socket to a worker process of an application. The pool decides which worker, starts
//! workers when they are needed, stops them when they are idle, and never sees a byte of the traffic.
//!
//! ```no_run
//! use hatchery_pool_client::PoolServer;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = PoolServer::builder().max(6).start()?;
//! let client = pool.connect().await?;
//!
//! let mut session = client.get("/srv/shop").await?;
//! session.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await?;
//! let mut answer = Vec::new();
//! session.read_to_end(&mut answer).await?;
//! session.finish().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions end in one of three ways
//!
//! - [`keep`](Session::keep): the exchange is complete, and the connection is parked here for the next session at
//!   this worker. The worker's slot stays with it; the pool can take both back at any time.
//! - [`finish`](Session::finish): the exchange is complete, and the connection is closed.
//! - dropped: the exchange is not complete. The worker may still compute, so the pool does not give its slot to
//!   anybody until it is done.
//!
//! # Processes and forks
//!
//! The pool-server is looked for beside the program, in `../libexec/hatchery/`, and as `hatchery` on the `PATH`;
//! [`Builder::pool_server`] and the environment variable `HATCHERY_POOL_SERVER` name another. It ends when this
//! program does, however that ends. Nothing it needs is asked of this program: no signal handler, no child to
//! reap, no environment variable.
//!
//! A program may fork. [`PoolServer`] works in the child: it [connects](PoolServer::connect) anew there. Clients and
//! sessions belong to the process that made them; elsewhere they answer `Forked`, and dropping them there does not
//! disturb the parent. The [`blocking`] side starts no thread.
//!
//! # When the pool dies
//!
//! When the pool's core ends, its sessions do; clients make themselves a new channel at their next use, and
//! unanswered questions are asked again. When the keeper ends, all errors say that the pool is gone, and
//! [`PoolServer::gone`] returns; [`PoolServer::restart`] starts another.
#![warn(missing_docs)]
#![deny(unsafe_code)]

mod answer;
mod builder;
mod carry;
mod client;
mod door;
mod error;
mod line;
mod locate;
mod machine;
mod owner;
mod server;
mod session;
mod stream;
mod ticket;

pub mod blocking;

pub use builder::Builder;
pub use client::Client;
pub use error::{CallError, CloseError, ConnectError, GetError, ShutdownError, StartError};
pub use server::PoolServer;
pub use session::{ReuniteError, Session, SessionRead, SessionWrite};
pub use ticket::Ticket;

pub use hatchery_protocol::client::{Documents, Ended, RestartMode, SessionId, SessionProtocol, Transport};
pub use hatchery_protocol::config::{Admin, AppConfig, LogConfig, LogFormat, PoolConfig, Source};
pub use hatchery_protocol::options::{AppOptions, Start};
pub use hatchery_protocol::refusal::{Refusal, Scope};
pub use hatchery_protocol::report::{Exit, Setup, SpawnReport, SpawnStep};
pub use hatchery_protocol::status::{AppStatus, Status, WorkerStatus};

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;
