//! What is said of a process that could not be started: what went wrong, and what to do about it.

use super::{Role, Worker, words};
use crate::core::output::printable;
use hatchery_protocol::link::{LaunchPlan, Listen, Loader, Place, Program, ReadyBy, StartAs};
use hatchery_protocol::report::{Exit, Setup, SpawnReport, SpawnStep};
use nix::sys::signal::Signal;

/// The longest sentence of an app's that is passed on, in characters.
const LONGEST_SENTENCE: usize = 2_000;

/// One sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl Cause {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    /// What a loader says quotes the app: it must not command a terminal, nor fill the log.
    pub(super) fn said_by_the_app(report: &SpawnReport) -> Self {
        let line = |text: &str| -> String { printable(text).chars().take(LONGEST_SENTENCE).collect() };
        Self { problem: line(&report.problem), remedy: line(&report.remedy) }
    }
}

impl Worker {
    pub(super) fn report(&self, step: SpawnStep, cause: Cause) -> SpawnReport {
        let Cause { problem, remedy } = cause;
        let (root, output) = (String::new(), String::new());
        self.completed(SpawnReport { root, step, problem, remedy, output, exit: None, setup: None })
    }

    /// With what the spawner does not know, or need not say.
    pub(super) fn completed(&self, report: SpawnReport) -> SpawnReport {
        let output = self.output.last();
        SpawnReport {
            root: String::from_utf8_lossy(&self.plan.root).into_owned(),
            output: if output.is_empty() { report.output } else { output },
            setup: report.setup.or_else(|| Some(Box::new(self.plan.setup.clone()))),
            ..report
        }
    }

    /// Of one that has exited before it was ready.
    pub(super) fn start_report(&self, exit: Exit) -> SpawnReport {
        let ended = Ended {
            plan: &self.plan,
            start_as: self.start_as,
            place: self.place.as_ref(),
            timed_out: self.order.is_some_and(|order| order.start_timed_out),
            out_of_memory: self.out_of_memory,
            exit,
        };
        let (step, cause) = match &self.cause {
            Some(cause) => (SpawnStep::Load, cause.clone()),
            None => (ended.step(), ended.cause(&self.output.last())),
        };
        SpawnReport { exit: Some(exit), ..self.report(step, cause) }
    }

    /// Whether one of our loaders runs it, which says why it can't load the app.
    pub(super) fn has_loader(&self) -> bool {
        matches!(self.plan.program, Program::Loader(_))
    }
}

/// A process that left before it was ready.
struct Ended<'a> {
    plan: &'a LaunchPlan,
    start_as: StartAs,
    place: Option<&'a Place>,
    timed_out: bool,
    out_of_memory: bool,
    exit: Exit,
}

impl Ended<'_> {
    fn role(&self) -> Role {
        if self.start_as == StartAs::Preloader { Role::Preloader } else { Role::Worker }
    }

    fn loader(&self) -> Option<Loader> {
        match &self.plan.program {
            Program::Loader(loading) => Some(loading.loader),
            Program::Command(_) | Program::DemoApp => None,
        }
    }

    /// What it was doing.
    fn step(&self) -> SpawnStep {
        match self.start_as {
            // It has the app loaded from the beginning.
            StartAs::ForkOf(_) => SpawnStep::Ready,
            StartAs::Worker | StartAs::Preloader if self.loader().is_some() => SpawnStep::Load,
            StartAs::Worker | StartAs::Preloader => SpawnStep::Ready,
        }
    }

    /// What it did before it was ready.
    fn what(&self) -> &'static str {
        match (self.start_as, self.loader()) {
            (StartAs::ForkOf(_), _) => "the worker forked from its preloader",
            (_, Some(_)) => "the process that loads the application",
            (_, None) => "its start command",
        }
    }

    fn cause(&self, output: &str) -> Cause {
        if self.timed_out {
            return self.too_slow(output);
        }
        if self.out_of_memory {
            let problem = "the kernel killed it for want of memory before it was ready";
            return Cause::new(problem, memory_remedy(&self.plan.setup));
        }
        let last = words::Last { output, exit: self.exit, listen: self.plan.listen, setup: &self.plan.setup };
        words::cause(&last).unwrap_or_else(|| match self.exit {
            Exit::Status(0) => self.left_in_peace(),
            Exit::Status(_) => self.failed(output),
            Exit::Signal(signal) => self.killed_by(signal, output),
        })
    }

    fn too_slow(&self, output: &str) -> Cause {
        let time = self.plan.start_timeout;
        if let Some(line) = words::elsewhere(output, self.place).filter(|_| self.loader().is_none()) {
            return Cause::new(
                format!("it was not ready within {time:?} and was killed; it seems to listen elsewhere: {line}"),
                words::own_address(self.plan.listen),
            );
        }
        let longer = "or raise start_timeout if it needs longer";
        match (self.role(), self.place, self.plan.ready) {
            (Role::Preloader, ..) => Cause::new(
                format!("it had not loaded the application within {time:?} and was killed"),
                format!("See in its last output what it waits for while it is loaded, {longer}."),
            ),
            (_, Some(Place::Port(port)), ReadyBy::Probe) => Cause::new(
                format!("nothing of it listened on 127.0.0.1 at port {port} within {time:?}, and it was killed"),
                format!("{}, {longer}.", self.waits_for()),
            ),
            (_, Some(Place::Path(path)), ReadyBy::Probe) => Cause::new(
                format!("it did not answer at {} within {time:?} and was killed", String::from_utf8_lossy(path)),
                format!("{}, {longer}.", self.waits_for()),
            ),
            _ => Cause::new(
                format!("it was not ready within {time:?} and was killed"),
                format!("{}, {longer}.", self.waits_for()),
            ),
        }
    }

    fn waits_for(&self) -> &'static str {
        match (self.loader(), self.plan.ready, self.plan.listen) {
            (Some(_), ..) => "See in its last output what it waits for while it is loaded",
            (_, ReadyBy::Notify, _) => {
                "It must send READY=1 to NOTIFY_SOCKET, since its manifest says ready = \"notify\""
            }
            (_, _, Listen::Fd) => {
                "It must accept connections on the socket at descriptor 3 (LISTEN_FDS=1) and answer there; what can \
                 only listen at a port of its own needs listen = \"port\" in hatchery.toml, and PORT or {port}"
            }
            (_, _, Listen::Stdin) => {
                "It must accept connections on the socket that is its standard input, and answer there"
            }
            (_, _, Listen::Port) => "It must listen on 127.0.0.1 at the port in PORT, or {port} in its command",
            (_, _, Listen::Socket) => "It must listen at the path {socket} in its command, and answer there",
        }
    }

    fn left_in_peace(&self) -> Cause {
        let remedy = match (self.start_as, self.loader()) {
            (StartAs::ForkOf(_), _) | (_, Some(_)) => {
                "Something in the application ends the process while it starts: look for what calls exit."
            }
            _ => "A worker must stay in the foreground and serve until it gets TERM: don't let it daemonize.",
        };
        Cause::new(format!("{} ended at once, with exit status 0", self.what()), remedy)
    }

    fn failed(&self, output: &str) -> Cause {
        Cause::new(format!("{} ended before it was ready, with {}", self.what(), self.exit), see(output))
    }

    fn killed_by(&self, signal: i32, output: &str) -> Cause {
        let what = self.what();
        let named = Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
        let (did, remedy) = match Signal::try_from(signal) {
            Ok(Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGILL | Signal::SIGFPE) => (
                "crashed",
                "It, its interpreter, or an extension in machine code is broken, or was built for another machine: \
                 see its last output, and start it by hand under a debugger."
                    .to_owned(),
            ),
            Ok(Signal::SIGABRT) => ("aborted itself", see(output).to_owned()),
            Ok(Signal::SIGSYS) => (
                "used a system call that is forbidden to it",
                "See what filter of system calls the pool is under (SystemCallFilter of its service, or the \
                 container's), and allow what the application needs."
                    .to_owned(),
            ),
            Ok(Signal::SIGKILL) => (
                "was killed, from outside or by the kernel,",
                format!(
                    "See in the kernel's log (`dmesg`) whether the machine was short of memory. {}",
                    memory_remedy(&self.plan.setup)
                ),
            ),
            Ok(Signal::SIGXCPU) => {
                ("used more processor time than it may", limit_remedy(&self.plan.setup, "limit_cpu"))
            }
            Ok(Signal::SIGXFSZ) => ("wrote a larger file than it may", limit_remedy(&self.plan.setup, "limit_fsize")),
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) => (
                "was told to leave, and not by the pool,",
                "See what else sends it signals: itself, another program, or somebody at a terminal.".to_owned(),
            ),
            _ => ("was ended by a signal", see(output).to_owned()),
        };
        Cause::new(format!("{what} {did} before it was ready ({named})"), remedy)
    }
}

/// Where to look for what only the app can know.
fn see(output: &str) -> &'static str {
    if output.is_empty() {
        "It printed nothing: start it by hand, in the application's folder and as its user, to see why."
    } else {
        "Its last output should say why."
    }
}

/// The limits of memory that an app has, by name and value.
fn memory_limits(setup: &Setup) -> Vec<String> {
    let of_memory = |name: &str| ["limit_as", "limit_data", "memory_max"].contains(&name);
    let limits = setup.limits.iter().filter(|(name, value)| of_memory(name) && value != "never");
    limits.map(|(name, value)| format!("{name} ({value})")).collect()
}

/// What to do about want of memory.
pub(super) fn memory_remedy(setup: &Setup) -> String {
    match memory_limits(setup).as_slice() {
        [] => "Make it need less, or give the machine more memory: the pool gives it no limit of its own.".into(),
        limits => format!("Raise its {}, or make it need less.", limits.join(" or ")),
    }
}

fn limit_remedy(setup: &Setup, name: &str) -> String {
    match setup.limits.iter().find(|(other, _)| other == name) {
        Some((_, value)) => format!("Raise its {name} ({value}), or make it need less."),
        None => format!("Raise the limit that the pool itself was started with, or give the application a {name}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::client::SessionProtocol;
    use hatchery_protocol::link::{Limits, Loading, WorkerNumber};
    use std::time::Duration;

    fn plan(program: Program, listen: Listen) -> LaunchPlan {
        LaunchPlan {
            root: b"/srv/shop".to_vec(),
            directory: b"/srv/shop".to_vec(),
            program,
            listen,
            ready: ReadyBy::Probe,
            protocol: SessionProtocol::Http,
            concurrency: 1,
            environment: "production".into(),
            env: Vec::new(),
            documents: None,
            start_timeout: Duration::from_secs(90),
            identity: None,
            limits: Limits::default(),
            dump_signal: 0,
            seen: None,
            setup: Setup::default(),
        }
    }

    fn command() -> LaunchPlan {
        plan(Program::Command(vec![b"./run".to_vec()]), Listen::Fd)
    }

    fn loaded() -> LaunchPlan {
        let (interpreter, entry) = (vec![b"python3".to_vec()], b"app.py".to_vec());
        plan(Program::Loader(Loading { loader: Loader::Wsgi, interpreter, entry, preload: true }), Listen::Fd)
    }

    fn ended(plan: &LaunchPlan, exit: Exit) -> Ended<'_> {
        Ended { plan, start_as: StartAs::Worker, place: None, timed_out: false, out_of_memory: false, exit }
    }

    fn problem(ended: &Ended<'_>, output: &str) -> String {
        let Cause { problem, remedy } = ended.cause(output);
        assert!(!problem.ends_with('.') && remedy.ends_with('.') && !remedy.contains(".."), "{problem}: {remedy}");
        problem
    }

    #[test]
    fn an_end_before_readiness_is_one_sentence_that_says_how() {
        let plan = command();
        for (exit, sentence) in [
            (Exit::Status(0), "its start command ended at once, with exit status 0"),
            (Exit::Status(7), "its start command ended before it was ready, with exit status 7"),
            (Exit::Signal(11), "its start command crashed before it was ready (SIGSEGV)"),
            (Exit::Signal(6), "its start command aborted itself before it was ready (SIGABRT)"),
            (
                Exit::Signal(9),
                "its start command was killed, from outside or by the kernel, before it was ready (SIGKILL)",
            ),
            (
                Exit::Signal(15),
                "its start command was told to leave, and not by the pool, before it was ready (SIGTERM)",
            ),
            (
                Exit::Signal(31),
                "its start command used a system call that is forbidden to it before it was ready (SIGSYS)",
            ),
            (Exit::Signal(24), "its start command used more processor time than it may before it was ready (SIGXCPU)"),
            (Exit::Signal(40), "its start command was ended by a signal before it was ready (signal 40)"),
        ] {
            assert_eq!(problem(&ended(&plan, exit), "some output"), sentence);
        }
        assert!(ended(&plan, Exit::Status(7)).cause("").remedy.contains("printed nothing"));
        let memory = Ended { out_of_memory: true, ..ended(&plan, Exit::Signal(9)) };
        assert!(problem(&memory, "").contains("for want of memory"));
        assert_eq!(ended(&plan, Exit::Status(1)).step(), SpawnStep::Ready);
    }

    #[test]
    fn known_last_words_are_the_problem() {
        let plan = command();
        let words = "Error: Cannot find module 'express'";
        assert_eq!(problem(&ended(&plan, Exit::Status(1)), words), "Node finds no module express");
    }

    #[test]
    fn one_that_takes_too_long_is_told_what_it_must_do() {
        let at = |listen| plan(Program::Command(vec![b"./run".to_vec()]), listen);
        let (fd, port, socket) = (at(Listen::Fd), at(Listen::Port), at(Listen::Socket));
        let late = |plan| Ended { timed_out: true, ..ended(plan, Exit::Signal(9)) };
        assert_eq!(problem(&late(&fd), ""), "it was not ready within 90s and was killed");
        assert!(late(&fd).cause("").remedy.contains("descriptor 3"));
        let place = Place::Port(4711);
        let never_bound = Ended { place: Some(&place), ..late(&port) };
        assert_eq!(
            problem(&never_bound, ""),
            "nothing of it listened on 127.0.0.1 at port 4711 within 90s, and it was killed"
        );
        let elsewhere = " * Running on http://127.0.0.1:5000 (Press CTRL+C to quit)";
        assert!(problem(&late(&fd), elsewhere).ends_with(
            "and was killed; it seems to listen elsewhere: Running on \
            http://127.0.0.1:5000 (Press CTRL+C to quit)"
        ));
        assert!(never_bound.cause("listening on port 3000").remedy.contains("PORT"));
        let place = Place::Path(b"/run/x/socket".to_vec());
        assert!(problem(&Ended { place: Some(&place), ..late(&socket) }, "").contains("/run/x/socket"));
        let preloader = loaded();
        let preloader = Ended { start_as: StartAs::Preloader, ..late(&preloader) };
        assert!(problem(&preloader, "").starts_with("it had not loaded the application within 90s"));
        assert_eq!(preloader.step(), SpawnStep::Load);
    }

    #[test]
    fn a_process_of_a_loader_is_told_from_a_start_command() {
        let plan = loaded();
        let direct = ended(&plan, Exit::Status(0));
        assert_eq!(problem(&direct, ""), "the process that loads the application ended at once, with exit status 0");
        assert_eq!(direct.step(), SpawnStep::Load);
        let forked = Ended { start_as: StartAs::ForkOf(WorkerNumber(1)), ..ended(&plan, Exit::Status(1)) };
        assert!(problem(&forked, "").starts_with("the worker forked from its preloader ended before it was ready"));
        assert_eq!(forked.step(), SpawnStep::Ready);
    }

    #[test]
    fn what_a_loader_says_commands_no_terminal_and_has_a_bound() {
        let report = SpawnReport {
            root: String::new(),
            step: SpawnStep::Load,
            problem: "bell \u{7}\nand more".into(),
            remedy: "x".repeat(30_000),
            output: String::new(),
            exit: None,
            setup: None,
        };
        let cause = Cause::said_by_the_app(&report);
        assert_eq!(cause.problem, "bell \\u{7}\\nand more");
        assert_eq!(cause.remedy.len(), LONGEST_SENTENCE);
    }
}
