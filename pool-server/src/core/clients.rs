//! A task per client channel, and the door through which they come.

use super::admin;
use super::apps;
use super::connections::Connection;
use super::outgoing::Outgoing;
use super::shell::{Shell, State};
use super::translate;
use hatchery_pool::{ClientId, Event, Request, SessionId};
use hatchery_protocol::channel::{self, ReceiveError, Receiver};
use hatchery_protocol::client::{RequestId, ToClient, ToPool};
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::memfd;
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::refusal::Refusal;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A client that does not greet within this is not one.
const GREETING: Duration = Duration::from_secs(10);
/// What a label may hold, in characters.
const LONGEST_LABEL: usize = 200;

/// Lets clients in until the front end closes the door.
pub(super) async fn open_door(shell: Shell, door: OwnedFd) {
    let Ok((_, mut door)) = channel::split::<FromDoor, ToDoor>(door) else {
        tracing::error!("the door can't be watched");
        return shell.door_closed();
    };
    loop {
        match door.receive().await {
            Ok((ToDoor::Connect, mut descriptors)) => {
                if let Some(end) = descriptors.pop() {
                    tokio::task::spawn_local(serve(shell.clone(), end));
                }
            }
            Ok((ToDoor::Configure, _)) => tracing::warn!("a second configuration on the door is ignored"),
            Err(ReceiveError::Closed) => return shell.door_closed(),
            // The door is shared: one bad packet must not close it for the others.
            Err(ReceiveError::Decode(error)) => tracing::warn!("a packet on the door is dropped: {error}"),
            Err(error) => {
                tracing::error!("the door: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(shell: Shell, end: OwnedFd) {
    let Ok((sender, mut receiver)) = channel::split::<ToClient, ToPool>(end) else {
        return tracing::warn!("a client's channel can't be watched");
    };
    let greeted = match sender.try_send_hello() {
        Ok(()) => tokio::time::timeout(GREETING, receiver.receive_hello()).await,
        Err(_) => return,
    };
    let outgoing = Outgoing::new(sender);
    match greeted {
        Ok(Ok(_)) => {}
        Ok(Err(ReceiveError::Closed)) => return,
        Ok(Err(error)) => return refuse_channel(&outgoing, &error.to_string()),
        Err(_) => return refuse_channel(&outgoing, "it did not greet in time"),
    }
    let pid = receiver.peer().ok().and_then(|peer| peer.pid());
    let client = shell.add_client(outgoing.clone(), pid);
    tracing::debug!(client = client.0, pid, "connected");
    let error = tokio::select! {
        error = hear(&shell, client, &mut receiver) => Some(error),
        () = outgoing.given_up() => None,
    };
    shell.remove_client(client);
    match error {
        Some(ReceiveError::Closed) => tracing::debug!(client = client.0, "gone"),
        Some(error) => refuse_channel(&outgoing, &error.to_string()),
        None => {}
    }
    outgoing.close();
}

/// Says why before closing, as far as it can still be said.
fn refuse_channel(outgoing: &Outgoing<ToClient>, why: &str) {
    tracing::warn!("a client's channel is closed: {why}");
    let _ = outgoing.send(&ToClient::Goodbye { why: why.to_owned() }, &[]);
}

/// Until the channel ends, which is why.
async fn hear(shell: &Shell, client: ClientId, receiver: &mut Receiver<ToPool>) -> ReceiveError {
    loop {
        match receiver.receive().await {
            Ok((message, _)) => obey(shell, client, message),
            Err(error) => return error,
        }
    }
}

fn obey(shell: &Shell, client: ClientId, message: ToPool) {
    let question = |request: RequestId| Request { client, number: request.0 };
    let asked = |request: RequestId| Some(question(request));
    match message {
        ToPool::Get { request, app_root, options, key, label } => {
            shell.state().note_label(question(request), label);
            get(shell, question(request), app_root, *options, key);
        }
        ToPool::Cancel { request } => {
            shell.state().labels.remove(&question(request));
            shell.tell(Event::Cancelled { request: question(request) });
        }
        ToPool::Close { session, how } => {
            let session = hatchery_pool::SessionId(session.0);
            shell.tell(Event::Closed { client, session, how: translate::close(how) });
        }
        ToPool::Reconnect { request, session } => {
            let session = hatchery_pool::SessionId(session.0);
            let label = shell.state().connection_of(client, session).map(|connection| connection.label().to_owned());
            shell.state().note_label(question(request), label);
            shell.tell(Event::Reconnected { request: question(request), session });
        }
        ToPool::Label { session, text } => {
            let session = hatchery_pool::SessionId(session.0);
            // Else it is over already, or another client's.
            if let Some(connection) = shell.state().connection_of(client, session) {
                connection.set_label(cut(&text));
            }
        }
        ToPool::Clear { request } => shell.tell(Event::Clear { request: asked(request) }),
        ToPool::SetMax { request, max } => match NonZeroU32::new(max) {
            Some(max) => shell.tell(Event::SetMax { request: asked(request), max }),
            None => invalid(shell, client, request, "max is 0: a pool needs at least 1 worker process"),
        },
        ToPool::SetMaxPerApp { request, max_per_app } => {
            let max_per_app = NonZeroU32::new(max_per_app);
            shell.tell(Event::SetMaxPerApp { request: asked(request), max_per_app });
        }
        ToPool::SetMaxIdleTime { request, max_idle } => {
            let max_idle = translate::zero_is_never(max_idle);
            shell.tell(Event::SetMaxIdleTime { request: asked(request), max_idle });
        }
        ToPool::GetActive { request } => figure(shell, client, request, |state| u64::from(state.pool.active())),
        ToPool::GetCount { request } => figure(shell, client, request, |state| u64::from(state.pool.count())),
        ToPool::GetSpawnServerPid { request } => {
            figure(shell, client, request, |state| u64::try_from(state.spawner_pid).unwrap_or_default());
        }
        ToPool::Status { request } => status(shell, client, request),
        ToPool::Restart { request, root, mode } => {
            let mode = translate::restart_mode(mode);
            shell.tell(Event::Restart { request: asked(request), root, mode });
        }
        ToPool::Add { request, root, options } => add(shell, question(request), root, *options),
        ToPool::Remove { request, root } => shell.tell(Event::Removed { request: asked(request), root }),
        ToPool::Stop { request, root } => shell.tell(Event::StopApp { request: asked(request), root }),
        ToPool::Start { request, root } => shell.tell(Event::StartApp { request: asked(request), root }),
        ToPool::Retire { request, pid } => {
            let worker = {
                let state = shell.state();
                let found = state.workers.with_pid(pid).ok_or_else(|| format!("no worker has the process id {pid}"));
                found.and_then(|worker| state.only_a_worker(worker))
            };
            match worker {
                Ok(worker) => shell.tell(Event::Retire { request: asked(request), worker }),
                Err(why) => invalid(shell, client, request, &why),
            }
        }
        ToPool::Disable { request, root, why } => {
            shell.tell(Event::Disable { request: asked(request), root, why });
        }
        ToPool::Enable { request, root } => shell.tell(Event::Enable { request: asked(request), root }),
        ToPool::EndSession { request, session } => {
            let session = hatchery_pool::SessionId(session.0);
            shell.tell(Event::EndSession { request: asked(request), session });
        }
        ToPool::Operate { request } => operate(shell, client, request),
        ToPool::Reload { request } => {
            let shell = shell.clone();
            tokio::task::spawn_local(async move {
                match shell.reload().await {
                    Ok(()) => shell.state().send(client, &ToClient::Done { request }, None),
                    Err(problem) => invalid(&shell, client, request, &problem),
                }
            });
        }
    }
}

/// Registers an app for good, or changes the options of one that is.
fn add(shell: &Shell, request: Request, root: Vec<u8>, options: AppOptions) {
    match apps::check(&root, &options) {
        Ok(()) => shell.add(request, root, options),
        Err(why) => invalid(shell, request.client, RequestId(request.number), &why),
    }
}

/// The client is of the program that started the pool, and may say what an operator may.
fn operate(shell: &Shell, client: ClientId, request: RequestId) {
    match admin::connect(shell) {
        Ok(theirs) => shell.state().send(client, &ToClient::Operator { request }, Some(theirs.as_fd())),
        Err(error) => {
            tracing::warn!("a connection for the operator can't be made: {error}");
            shell.state().send(client, &ToClient::Refused { request, refusal: Refusal::Overloaded }, None);
        }
    }
}

fn cut(label: &str) -> String {
    label.chars().take(LONGEST_LABEL).collect()
}

impl State {
    /// What the session that is asked for will be doing.
    fn note_label(&mut self, request: Request, label: Option<String>) {
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            self.labels.insert(request, cut(&label));
        }
    }

    /// The connection of a client's that carries this session.
    fn connection_of(&mut self, client: ClientId, session: SessionId) -> Option<&mut Connection> {
        let (id, _) = self.pool.connection(session)?;
        self.connections.get_mut(&id).filter(|connection| connection.carries(client, session))
    }
}

fn status(shell: &Shell, client: ClientId, request: RequestId) {
    let state = shell.state();
    match memfd::write(&super::status::status(&state)) {
        Ok(payload) => state.send(client, &ToClient::Status { request }, Some(payload.as_fd())),
        Err(error) => {
            tracing::warn!("a status can't be sent: {error}");
            state.send(client, &ToClient::Refused { request, refusal: Refusal::Overloaded }, None);
        }
    }
}

fn get(shell: &Shell, request: Request, root: Vec<u8>, options: AppOptions, key: Option<String>) {
    if let Err(why) = apps::check(&root, &options) {
        return invalid(shell, request.client, RequestId(request.number), &why);
    }
    let wanted = translate::wanted(&options);
    shell.settle_options(&root, options);
    shell.tell(Event::Asked { request, root: root.clone(), wanted, key });
    shell.unsettle_options(&root);
}

fn invalid(shell: &Shell, client: ClientId, request: RequestId, why: &str) {
    let refusal = Refusal::Invalid(why.to_owned());
    shell.state().send(client, &ToClient::Refused { request, refusal }, None);
}

fn figure(shell: &Shell, client: ClientId, request: RequestId, figure: impl FnOnce(&super::shell::State) -> u64) {
    let state = shell.state();
    state.send(client, &ToClient::Figure { request, figure: figure(&state) }, None);
}
