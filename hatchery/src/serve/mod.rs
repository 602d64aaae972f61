//! `hatchery serve`: a web server with a pool inside.
//!
//! | file | holds |
//! | --- | --- |
//! | [`plan`] | what the options come to |
//! | [`listen`], [`accept`] | where clients come in, and their connections |
//! | [`router`], [`forward`] | which app a request is for, and its way there |
//! | [`attempts`] | how often a request is tried |
//! | [`headers`], [`upload`], [`exchange`], [`switch`] | head and body of the request, the answer, and what is no HTTP |
//! | [`pages`] | what is answered when no application does |
//! | [`rights`] | as whom all this runs |
//! | [`pool`] | the pool's channel, and a new pool when the old one is gone |

mod accept;
mod attempts;
mod exchange;
mod forward;
mod headers;
mod interim;
mod limits;
pub(crate) mod listen;
mod logging;
pub(crate) mod pages;
pub(crate) mod plan;
mod pool;
mod rights;
pub(crate) mod router;
mod switch;
mod upload;

use crate::cli::{self, AdminAt};
use crate::complain;
use accept::Accepting;
use forward::Front;
use hatchery_pool_client::PoolServer;
use limits::OpenFiles;
use listen::{Bound, Listener};
use plan::{Plan, Unplanned};
use pool::{Pool, Revival};
use rights::Rights;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the pool has to go when nobody needs it any more.
const GRACE: Duration = Duration::from_secs(15);

pub(crate) fn run(options: cli::Serve, admin: Option<AdminAt>) -> ExitCode {
    let plan = match Plan::new(options, admin) {
        Ok(plan) => plan,
        Err(Unplanned::Sentence(problem)) => return complain(problem),
        Err(Unplanned::File(problems)) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(problem) = logging::start(&plan.config.log) {
        return complain(problem);
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let bound = match plan.places.iter().map(Bound::bind).collect::<Result<Vec<Bound>, _>>() {
        Ok(bound) => bound,
        Err(problem) => return complain(problem),
    };
    let server = match start_pool(&plan) {
        Ok(server) => server,
        Err(problem) => return complain(problem),
    };
    // Here is one thread still, and all is open that takes rights to open.
    let rights = match Rights::settle(server.pool_user()) {
        Ok(rights) => rights,
        Err(problem) => return complain(problem),
    };
    // The pool has the limit that this process was given, and hands it on to the applications.
    let files = OpenFiles::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(format_args!("no threads could be started: {error}")),
    };
    let status = runtime.block_on(serve(plan, bound, server, rights, files));
    // Whatever still runs was told to end, and had its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    status
}

/// Half the cores: the pool and the applications need some too, and threads that wake each other cost more than
/// they carry.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

fn start_pool(plan: &Plan) -> Result<PoolServer, String> {
    // The link works under any name, and when the file was replaced by a newer one meanwhile.
    let own = PoolServer::builder().pool_server("/proc/self/exe");
    own.config(plan.config.clone()).start().map_err(|error| error.to_string())
}

async fn serve(plan: Plan, bound: Vec<Bound>, server: PoolServer, rights: Rights, files: OpenFiles) -> ExitCode {
    let (term, int) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(term), Ok(int)) => (term, int),
        (Err(error), _) | (_, Err(error)) => return complain(format_args!("signals can't be received: {error}")),
    };
    let mut signals = Signals { term, int };
    announce(&plan, &bound, &server, rights);
    let cut = CancellationToken::new();
    let front = Arc::new(Front {
        router: plan.router,
        pool: Pool::new(server),
        switched: TaskTracker::new(),
        cut: cut.clone(),
    });
    let accepting = Accepting::new(front.clone(), files.connections());
    for listener in bound {
        match Listener::new(listener) {
            Ok(listener) => accepting.from(listener),
            Err(error) => return complain(format_args!("it can't be listened: {error}")),
        }
    }
    let revival = match rights.no_further_pool() {
        Some(sentence) => Revival::Impossible(sentence),
        None => Revival::By(|server: &mut PoolServer| files.as_given(|| server.restart().map_err(|e| e.to_string()))),
    };
    let lost = tokio::select! {
        _ = signals.next() => None,
        problem = front.pool.keep_alive(revival) => Some(problem),
    };
    // From here on nothing new comes in; the second signal ends at once.
    let drained = async {
        accepting.drain(plan.drain_timeout).await;
        front.pool.shut_down(GRACE).await
    };
    tokio::select! {
        ended = drained => if let Err(error) = ended { tracing::warn!("{error}") },
        status = signals.next() => return ExitCode::from(status),
    }
    match lost {
        Some(problem) => complain(problem),
        None => ExitCode::SUCCESS,
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// The next TERM or INT, as the exit status of who is ended by it.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.term.recv() => 128 + 15,
            _ = self.int.recv() => 128 + 2,
        }
    }
}

/// The first lines: what is served, where, and how to stop; then what an operator should know.
fn announce(plan: &Plan, bound: &[Bound], server: &PoolServer, rights: Rights) {
    let urls: Vec<String> = bound.iter().map(Bound::url).collect();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "hatchery: serving {} on {} — Ctrl-C stops it", plan.what, urls.join(", "));
    let _ = writeln!(out, "hatchery: {}", rights.said(&plan.config));
    let _ = out.flush();
    if let Some(admin) = server.admin() {
        tracing::info!("the admin socket is {}", admin.display());
    }
}
