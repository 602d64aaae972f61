//! A web server of processes: one that controls, and four that serve, forked from it before anything else runs in
//! it. Each has a channel of its own to the one pool, and none keeps the pool alive alone.
//!
//! ```text
//! cargo run --example prefork [-- ROOT [ADDRESS:PORT]]
//! ```

mod common;

use hatchery_pool_client::PoolServer;
use hatchery_pool_client::blocking::{Client, Session};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const CHILDREN: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let (builder, root) = common::pool_with(std::env::args().nth(1))?;
    let listener = TcpListener::bind(std::env::args().nth(2).unwrap_or("127.0.0.1:8080".into()))?;
    let pool = builder.start()?;
    // From here on: what was started for the pool has ended, and was reaped.
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    signals.thread_block()?;
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        // SAFETY: no thread was started, neither here nor by the pool's client: the child has all of the process.
        match unsafe { fork() }? {
            ForkResult::Child => {
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
                return serve(pool, &listener, &root);
            }
            ForkResult::Parent { child } => children.push(child),
        }
    }
    println!("serving {} on http://{} with {CHILDREN} processes", root.display(), listener.local_addr()?);
    let ended = match signals.wait()? {
        Signal::SIGCHLD => Err("one of the processes has ended".into()),
        _ => Ok(()),
    };
    end(&children)?;
    pool.shutdown(Duration::from_secs(10))?;
    ended
}

fn end(children: &[Pid]) -> nix::Result<()> {
    for child in children {
        kill(*child, Signal::SIGTERM)?;
    }
    for child in children {
        if let WaitStatus::Exited(child, status) = waitpid(*child, None)? {
            eprintln!("process {child} had ended with status {status}");
        }
    }
    Ok(())
}

/// A child: it ends by TERM, or with its parent.
fn serve(pool: PoolServer, listener: &TcpListener, root: &Path) -> Result<(), Box<dyn Error>> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    if getppid() == Pid::from_raw(1) {
        return Err("the parent was gone already".into());
    }
    let client = pool.connect_blocking()?;
    // The door stays with the parent; the channel, and the sessions that come over it, are this process's own.
    pool.detach();
    loop {
        let (browser, _) = listener.accept()?;
        if let Err(error) = answer(&client, root, &browser) {
            eprintln!("{error}");
        }
    }
}

/// One request, with a body of a known length, over one connection: both sides tell by its end that they are done.
fn answer(client: &Client, root: &Path, browser: &TcpStream) -> Result<(), Box<dyn Error>> {
    browser.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut from_browser = BufReader::new(browser);
    let Some(head) = head(&mut from_browser)? else { return Ok(()) };
    let mut session = match client.get(root) {
        Ok(session) => session,
        Err(error) => {
            let text = format!("{error}\n");
            let head = format!("HTTP/1.1 {} Error\r\nConnection: close\r\n", error.http_status());
            return Ok(write!(&mut &*browser, "{head}Content-Length: {}\r\n\r\n{text}", text.len())?);
        }
    };
    pass_on(&mut session, &head, &mut from_browser)?;
    io::copy(&mut session, &mut &*browser)?;
    Ok(session.finish()?)
}

/// The lines of a request's head, without those that speak of the connection.
fn head(browser: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    for line in browser.take(64 * 1024).lines() {
        match line? {
            line if line.is_empty() => return Ok(Some(lines)),
            line if line.to_ascii_lowercase().starts_with("connection:") => {}
            line => lines.push(line),
        }
    }
    // It left, or goes on for ever.
    Ok(None)
}

fn pass_on(session: &mut Session, head: &[String], browser: &mut impl Read) -> Result<(), Box<dyn Error>> {
    let length =
        head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    write!(session, "{}\r\nConnection: close\r\n\r\n", head.join("\r\n"))?;
    io::copy(&mut browser.take(length.unwrap_or(0)), session)?;
    Ok(())
}
