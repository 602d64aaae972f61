//! The admin socket: a line protocol that a person can type. Data lines are indented by two spaces; the last line
//! of an answer is `ok` or `error: …`; with `json` before it, a command answers exactly one line.
//!
//! | file | holds |
//! | --- | --- |
//! | `connection.rs` | a line, its answer, and the next line |
//! | `lines.rs` | lines of bounded length, and answers to somebody who may not read them |
//! | `bounds.rs` | how much of the core all connections together may take |
//! | `peer.rs`, `rights.rs` | who connected, and the one table of what they may |
//! | `command.rs`, `help.rs` | what can be typed |
//! | `answer.rs` | an answer, in lines or as JSON |
//! | `looking.rs`, `orders.rs`, `settings.rs`, `streams.rs` | what commands do, by kind |

mod answer;
mod bounds;
mod command;
mod connection;
mod help;
mod lines;
mod looking;
mod orders;
mod peer;
mod rights;
mod settings;
mod streams;
mod words;

pub(super) use bounds::Bounds;

use super::shell::Shell;
use connection::Connection;
use rights::Rights;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

pub(super) fn listener(socket: StdListener) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

pub(super) async fn serve(shell: Shell, listener: UnixListener) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(&shell, stream, own),
            Err(error) => {
                // Out of descriptors, most likely: the connection stays pending, so trying at once would spin.
                tracing::warn!("the admin socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Lets somebody talk, or says why not.
fn admit(shell: &Shell, stream: UnixStream, own: u32) {
    let admitted = {
        let state = shell.state();
        let rights = match peer::of(&stream) {
            Ok(peer) => Rights::of(&peer, own, &state.access),
            Err(error) => return tracing::warn!("the admin socket: who connected can't be told: {error}"),
        };
        state.bounds.place(&rights).map(|place| Connection { shell: shell.clone(), rights, place })
    };
    match admitted {
        Ok(connection) => {
            tokio::task::spawn_local(connection.talk(stream));
        }
        Err(full) => {
            // There is room for it: nothing was said before. Who is gone already misses nothing.
            let _ = stream.try_write(format!("error: {full}\n").as_bytes());
        }
    }
}

/// A connection for whoever may say everything: its other end.
///
/// # Errors
/// No descriptors, mostly.
pub(super) fn connect(shell: &Shell) -> io::Result<OwnedFd> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let connection = {
        let state = shell.state();
        let rights = Rights::of_the_front_end(&state.access);
        let place = state.bounds.place(&rights).map_err(io::Error::other)?;
        Connection { shell: shell.clone(), rights, place }
    };
    tokio::task::spawn_local(connection.talk(ours));
    Ok(theirs.into())
}
