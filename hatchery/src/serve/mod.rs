//! `hatchery serve`: a web server with a pool inside.
//!
//! | file | holds |
//! | --- | --- |
//! | [`plan`] | what the options come to |
//! | [`listen`], [`inherit`], [`accept`] | where clients come in, and their connections |
//! | [`router`], [`forward`] | which app a request is for, and its way there |
//! | [`attempts`] | how often a request is tried |
//! | [`tally`], [`marks`] | what is counted, and what an operator recognises a request by |
//! | [`headers`], [`upload`], [`exchange`], [`switch`] | head and body of the request, the answer, and what is no HTTP |
//! | [`telling`], [`cgi`], [`fastcgi`], [`wire`] | the same for workers that speak another protocol |
//! | [`documents`], [`files`], [`pieces`] | which script or file answers, where an app is a folder of them |
//! | [`pages`] | what is answered when no application does |
//! | [`reload`] | what is said is read again |
//! | [`rights`] | as whom all this runs |
//! | [`service`], [`init`] | what a service manager is told; being process 1 |
//! | [`pool`] | the pool's channel, and a new pool when the old one is gone |

pub(crate) mod accept;
mod attempts;
pub(crate) mod cgi;
mod documents;
mod exchange;
mod fastcgi;
mod files;
pub(crate) mod forward;
mod headers;
mod inherit;
mod init;
mod interim;
mod limits;
pub(crate) mod listen;
mod log_line;
mod logging;
mod marks;
pub(crate) mod pages;
mod pieces;
pub(crate) mod plan;
pub(crate) mod pool;
mod reload;
mod rights;
pub(crate) mod router;
mod service;
mod switch;
pub(crate) mod tally;
mod telling;
mod upload;
mod wire;

use crate::admin_http::AdminHttp;
use crate::cli::{self, AdminAt};
use crate::complain;
use accept::Accepting;
use forward::Front;
use hatchery_pool_client::PoolServer;
use inherit::Inherited;
use init::Init;
use limits::OpenFiles;
use listen::{Bound, Listener};
use plan::{Plan, Unplanned};
use pool::{Pool, Revival};
use reload::{Holding, Routes, Told};
use rights::Rights;
use service::Service;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use telling::Folders;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the pool has to go when nobody needs it any more.
const GRACE: Duration = Duration::from_secs(15);

pub(crate) fn run(options: cli::Serve, admin: Option<AdminAt>) -> ExitCode {
    // Before any other descriptor is opened.
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(problem) => return complain(problem),
    };
    let (init, service) = match (Init::begin(), Service::of_environment()) {
        (Ok(init), Ok(service)) => (init, service),
        (Err(problem), _) | (_, Err(problem)) => return complain(problem),
    };
    let told = Told { unsaid: inherited.unsaid(&options) };
    let plan = match told.plan(options, admin) {
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
    let bound = match inherited.bind(&plan.places, plan.places_said) {
        Ok(bound) => bound,
        Err(problem) => return complain(problem),
    };
    let admin_http = match plan.admin_http.as_ref().map(AdminHttp::bind).transpose() {
        Ok(admin_http) => admin_http,
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
    let status = runtime.block_on(serve(plan, told, (bound, admin_http), server, rights, files, (init, service)));
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

async fn serve(
    plan: Plan,
    told: Told,
    (bound, admin_http): (Vec<Bound>, Option<AdminHttp>),
    server: PoolServer,
    rights: Rights,
    files: OpenFiles,
    (init, service): (Init, Service),
) -> ExitCode {
    let (mut signals, mut hangups) = match (Signals::new(&init), Hangups::new()) {
        (Ok(signals), Ok(hangups)) => (signals, hangups),
        (Err(error), _) | (_, Err(error)) => return complain(format_args!("signals can't be received: {error}")),
    };
    if let Err(error) = init.listen() {
        return complain(format_args!("signals can't be received: {error}"));
    }
    announce(&plan, &bound, admin_http.as_ref(), &server, rights);
    let holding = Holding::new(told, plan.places, plan.admin_http, plan.drain_timeout, plan.what);
    let (cut, ending) = (CancellationToken::new(), CancellationToken::new());
    let front = Arc::new(Front {
        routes: Routes::new(plan.router),
        pool: Pool::new(server),
        folders: Folders::default(),
        tally: Tally::default(),
        switched: TaskTracker::new(),
        cut: cut.clone(),
    });
    // Until the runtime ends.
    if let Some(admin_http) = admin_http {
        tokio::spawn(admin_http.serve(front.clone(), ending.clone()));
    }
    let accepting = Accepting::new(front.clone(), files.connections());
    for listener in bound {
        match Listener::new(listener) {
            Ok(listener) => accepting.from(listener),
            Err(error) => return complain(format_args!("it can't be listened: {error}")),
        }
    }
    let revival = match rights.no_further_pool() {
        Some(sentence) => Revival::Impossible(sentence),
        None => Revival::By(|server: &mut PoolServer| {
            init.undisturbed(|| files.as_given(|| server.restart().map_err(|e| e.to_string())))
        }),
    };
    let reloading = async {
        while hangups.next().await {
            service.reloading();
            let holds = holding.reload(&front.routes, &front.pool).await;
            service.reloaded(holds, &holding.what());
        }
    };
    // In this task, so that it ends when this no longer goes on.
    let mut besides = pin!(async { tokio::join!(service.keep_alive(&front.pool), init.reap()) });
    service.ready(&holding.what());
    let lost = tokio::select! {
        _ = signals.next() => None,
        () = front.pool.told_to_end() => None,
        problem = front.pool.keep_alive(revival) => Some(problem),
        () = reloading => None,
        _ = &mut besides => None,
    };
    ending.cancel();
    service.stopping(holding.drain_timeout().saturating_add(GRACE));
    // From here on nothing new comes in; the second signal ends at once.
    let drained = async {
        accepting.drain(holding.drain_timeout()).await;
        front.pool.shut_down(GRACE).await
    };
    tokio::select! {
        ended = drained => if let Err(error) = ended { tracing::warn!("{error}") },
        status = signals.next() => return ExitCode::from(status),
        _ = &mut besides => {}
    }
    match lost {
        Some(problem) => complain(problem),
        None => ExitCode::SUCCESS,
    }
}

struct Signals {
    term: Signal,
    int: Signal,
    /// A container may be stopped by it; elsewhere it ends this at once, as it does any program.
    quit: Option<Signal>,
}

impl Signals {
    fn new(init: &Init) -> std::io::Result<Self> {
        let quit = init.is_first().then(|| signal(SignalKind::quit())).transpose()?;
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, quit })
    }

    /// The next that means the end, as the exit status of who is ended by it.
    async fn next(&mut self) -> u8 {
        let quit = async {
            match &mut self.quit {
                Some(quit) => quit.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => 128 + 15,
            _ = self.int.recv() => 128 + 2,
            _ = quit => 128 + 3,
        }
    }
}

/// HUP, which has two meanings.
struct Hangups {
    hup: Signal,
    /// It was started in a terminal.
    at_terminal: bool,
}

impl Hangups {
    fn new() -> std::io::Result<Self> {
        Ok(Self { hup: signal(SignalKind::hangup())?, at_terminal: std::io::stdin().is_terminal() })
    }

    /// Waits for the next. True: somebody wants the configuration to be read again; false: the terminal that this
    /// was started in is gone, and nobody is left to stop it.
    async fn next(&mut self) -> bool {
        self.hup.recv().await;
        !self.at_terminal || std::io::stdin().is_terminal()
    }
}

/// The first lines: what is served, where, and how to stop; then what an operator should know.
fn announce(plan: &Plan, bound: &[Bound], admin_http: Option<&AdminHttp>, server: &PoolServer, rights: Rights) {
    let urls: Vec<String> = bound.iter().map(Bound::url).collect();
    let mut out = std::io::stdout().lock();
    // A folder's name may hold anything, and this is one line.
    let what = plan.what.replace(char::is_control, "?");
    let _ = writeln!(out, "hatchery: serving {what} on {} — Ctrl-C stops it", urls.join(", "));
    let _ = writeln!(out, "hatchery: {}", rights.said(&plan.config));
    if let Some(admin_http) = admin_http {
        let _ = writeln!(out, "hatchery: live page at {}", admin_http.address());
    }
    let _ = out.flush();
    if let Some(admin) = server.admin() {
        tracing::info!("the admin socket is {}", admin.display());
    }
}
