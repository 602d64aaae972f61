//! Starting a process: what it inherits is made, and it is asked for.

use super::{Role, Stage, Worker};
use crate::core::address::private_listener;
use crate::core::output::Printed;
use crate::core::ready::{self, NotifySocket};
use crate::core::shell::{Shell, State};
use hatchery_pool::{AppId, Event, Generation, WorkerId};
use hatchery_protocol::link::{AppNumber, Findings, LaunchPlan, Listen, ReadyBy, StartAs, ToKeeper, WorkerNumber};
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use tokio::sync::Notify;

/// What is to be started.
struct Wanted<'a> {
    app: AppId,
    id: WorkerId,
    generation: Generation,
    start_as: StartAs,
    plan: &'a Rc<LaunchPlan>,
    /// Where what it prints is kept.
    printed: &'a Rc<Printed>,
}

impl State {
    /// By its program, or by a fork of a preloader.
    pub(crate) fn spawn(
        &mut self,
        shell: &Shell,
        app: AppId,
        worker: WorkerId,
        generation: Generation,
        from: Option<WorkerId>,
    ) -> Option<Event> {
        let preloader = from.map(|preloader| WorkerNumber(self.number(preloader.0)));
        let start_as = preloader.map_or(StartAs::Worker, StartAs::ForkOf);
        self.start(shell, app, worker, generation, start_as)
    }

    pub(crate) fn preload(
        &mut self,
        shell: &Shell,
        app: AppId,
        preloader: WorkerId,
        generation: Generation,
    ) -> Option<Event> {
        self.start(shell, app, preloader, generation, StartAs::Preloader)
    }

    /// Makes what a process inherits, and asks for it. What fails is the failure of the start.
    fn start(
        &mut self,
        shell: &Shell,
        app: AppId,
        id: WorkerId,
        generation: Generation,
        start_as: StartAs,
    ) -> Option<Event> {
        let known = self.apps.get(&app)?;
        let (plan, printed) = (Rc::clone(known.plans.get(&generation)?), Rc::clone(&known.printed));
        match self.prepare(shell, &Wanted { app, id, generation, start_as, plan: &plan, printed: &printed }) {
            Ok(()) => None,
            Err(error) => {
                let report = self.keep_report(SpawnReport {
                    root: String::from_utf8_lossy(&plan.root).into_owned(),
                    step: SpawnStep::Prepare,
                    problem: format!("sockets and pipes for a process could not be made: {error}"),
                    remedy: "Raise the pool's limit of open files, or lower max.".into(),
                    output: String::new(),
                    exit: None,
                    setup: Some(Box::new(plan.setup.clone())),
                });
                Some(Event::SpawnFailed { worker: id, report, gone: true })
            }
        }
    }

    fn prepare(&mut self, shell: &Shell, wanted: &Wanted<'_>) -> std::io::Result<()> {
        let Wanted { app, id, generation, start_as, plan, printed } = *wanted;
        let role = if start_as == StartAs::Preloader { Role::Preloader } else { Role::Worker };
        let (listener, address) = match (role, plan.listen) {
            (Role::Worker, Listen::Fd | Listen::Stdin) => {
                let (listener, address) = private_listener(self.workers.sockets.as_fd())?;
                (Some(listener), Some(address))
            }
            (Role::Worker, Listen::Port | Listen::Socket) | (Role::Preloader, _) => (None, None),
        };
        let (stdout, stdout_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let name = self.app_name(app);
        let output = self.outputs.of_process(&name, role, printed, stdout, stderr)?;
        let notify = match (role, plan.ready) {
            (Role::Worker, ReadyBy::Notify) => Some(NotifySocket::bind(&self.workers.notify)?),
            (Role::Worker, ReadyBy::Probe) | (Role::Preloader, _) => None,
        };
        let message = ToKeeper::Spawn {
            worker: WorkerNumber(self.number(id.0)),
            app: AppNumber(self.number(app.0)),
            generation: generation.0,
            start_as,
            notify: notify.as_ref().map(|socket| socket.path().as_os_str().as_bytes().to_vec()),
            listener: listener.is_some(),
        };
        let given = [Some(stdout_write.as_fd()), Some(stderr_write.as_fd()), listener.as_ref().map(AsFd::as_fd)];
        let given: Vec<_> = given.into_iter().flatten().collect();
        self.tell_keeper(&message, &given);
        let mut process = Worker {
            pid: 0,
            app,
            generation,
            start_as,
            plan: Rc::clone(plan),
            address,
            output,
            notify,
            readiness: None,
            stage: Stage::Starting,
            place: None,
            order: None,
            cause: None,
            unfit: None,
            heard: Rc::new(Notify::new()),
            ping: None,
            findings: Findings::default(),
            memory: None,
            out_of_memory: false,
            said: VecDeque::new(),
        };
        if let Some(socket) = &process.notify {
            let mark = format!("{}.{}", self.workers.mark, id.0);
            let user = plan.identity.as_ref().map(|identity| identity.uid);
            let waiting = ready::notified(shell.clone(), id, socket.socket(), mark, user);
            let waiting = tokio::task::spawn_local(waiting);
            process.readiness = Some(waiting.abort_handle());
        }
        self.workers.table.insert(id, process);
        Ok(())
    }
}
