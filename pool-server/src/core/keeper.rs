//! What the keeper says.

use super::shell::Shell;
use hatchery_protocol::channel::Receiver;
use hatchery_protocol::link::{FromKeeper, FromSpawner};

/// Tells the shell until the keeper is gone; then nothing is left to be done but to go too.
pub(super) async fn listen(shell: Shell, mut link: Receiver<FromKeeper>) {
    let why = loop {
        match link.receive().await {
            Ok((FromKeeper::Spawner(message), descriptors)) => hear(&shell, message, descriptors),
            Ok((FromKeeper::Exited { worker, exit, out_of_memory, cpu }, _)) => {
                shell.worker_exited(worker, exit, out_of_memory, cpu);
            }
            Ok((FromKeeper::SpawnerRestarted { pid }, _)) => shell.set_spawner_pid(pid),
            Ok((FromKeeper::Shutdown, _)) => shell.shut_down(),
            Ok((FromKeeper::Reloaded { problem, kept }, descriptors)) => shell.reloaded(problem, &kept, descriptors),
            Ok((FromKeeper::Begin { .. }, _)) => break "it began twice".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    tracing::error!("the keeper is gone ({why}); the pool ends");
    shell.abandon_everything();
}

fn hear(shell: &Shell, message: FromSpawner, descriptors: Vec<std::os::fd::OwnedFd>) {
    match message {
        FromSpawner::Inspected { app, generation, plan } => shell.inspected(app, generation, *plan),
        FromSpawner::InspectFailed { app, generation, report } => shell.inspect_failed(app, generation, *report),
        FromSpawner::Looked { app, sight } => shell.looked(app, sight.map(|sight| *sight)),
        FromSpawner::Swapped { app, report } => shell.swapped(app, report.map(|report| *report)),
        FromSpawner::Started { worker, pid, place, cgroup: _, missed } => {
            shell.worker_started(worker, pid, place, missed);
        }
        FromSpawner::Examined { worker, findings } => shell.worker_examined(worker, *findings),
        FromSpawner::SpawnFailed { worker, report, preloader_lost } => {
            shell.worker_not_started(worker, *report, preloader_lost);
        }
        FromSpawner::Preloaded { worker, unfit } => shell.preloaded(worker, unfit),
        FromSpawner::LoadFailed { worker, report } => shell.load_failed(worker, *report),
        FromSpawner::Found { worker, place } => shell.listener_found(worker, &place, descriptors.into_iter().next()),
        FromSpawner::FindFailed { worker, report } => shell.worker_useless(worker, *report),
    }
}
