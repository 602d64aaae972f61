//! Every worker process: the keeper is its parent, its killer and its reaper.

use super::cgroup::Cgroup;
use super::marks::{self, Whose};
use crate::processor_time;
use hatchery_protocol::link::{AppNumber, Place, StartAs, WorkerNumber};
use hatchery_protocol::report::Exit;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the core asked a process for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Its mark, `POOL.CORE.N`.
    pub(super) mark: String,
    /// Sent before it is killed; 0: nothing is.
    pub(super) dump_signal: i32,
    pub(super) app: AppNumber,
    pub(super) generation: u64,
    pub(super) start_as: StartAs,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    task: Task,
}

#[derive(Debug)]
pub(super) enum Process {
    /// The spawner was asked and has not answered.
    Asked,
    Runs {
        pid: i32,
        place: Option<Place>,
        cgroup: Option<Cgroup>,
        /// The spawner looks for its listener.
        finding: bool,
    },
}

/// A worker that was reaped.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) worker: WorkerNumber,
    pub(super) exit: Exit,
    /// The kernel killed it for want of memory.
    pub(super) out_of_memory: bool,
    /// Processor time of it and of what it had waited for.
    pub(super) cpu: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    table: BTreeMap<WorkerNumber, Worker>,
}

impl Workers {
    pub(super) fn insert(&mut self, number: WorkerNumber, task: Task) {
        self.table.insert(number, Worker { process: Process::Asked, task });
    }

    /// What a process was asked for, if it is still there.
    pub(super) fn task(&self, number: WorkerNumber) -> Option<&Task> {
        self.table.get(&number).map(|worker| &worker.task)
    }

    /// Whether a process is known by another number already.
    pub(super) fn is_taken(&self, pid: i32) -> bool {
        self.table.values().any(|worker| running(worker) == Some(pid))
    }

    pub(super) fn mark(&self, number: WorkerNumber) -> Option<&str> {
        self.table.get(&number).map(|worker| worker.task.mark.as_str())
    }

    /// Tells a worker's own process to print its stacks, as far as the app's plan has a signal for it.
    pub(super) fn dump(&self, number: WorkerNumber) {
        let Some(worker) = self.table.get(&number) else { return };
        if let (Some(pid), Ok(signal)) = (running(worker), Signal::try_from(worker.task.dump_signal)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    pub(super) fn get(&self, number: WorkerNumber) -> Option<&Process> {
        self.table.get(&number).map(|worker| &worker.process)
    }

    pub(super) fn get_mut(&mut self, number: WorkerNumber) -> Option<&mut Process> {
        self.table.get_mut(&number).map(|worker| &mut worker.process)
    }

    pub(super) fn remove(&mut self, number: WorkerNumber) {
        self.table.remove(&number);
    }

    pub(super) fn pid(&self, number: WorkerNumber) -> Option<i32> {
        match self.table.get(&number)?.process {
            Process::Runs { pid, .. } => Some(pid),
            Process::Asked => None,
        }
    }

    pub(super) fn numbers(&self) -> Vec<WorkerNumber> {
        self.table.keys().copied().collect()
    }

    /// Whether the spawner owes an answer: until it comes, a child that isn't known may be a worker.
    pub(super) fn any_asked(&self) -> bool {
        self.table.values().any(|worker| matches!(worker.process, Process::Asked))
    }

    /// Ends the tree of one worker.
    pub(super) fn kill(&self, number: WorkerNumber) {
        if let Some(worker) = self.table.get(&number) {
            worker.process.kill();
        }
    }

    /// Ends the tree of every worker.
    pub(super) fn kill_all(&self) {
        self.table.values().for_each(|worker| worker.process.kill());
    }

    /// Takes out the workers that have ended, their trees killed while the zombie still holds the number.
    pub(super) fn reap(&mut self) -> Vec<Ended> {
        let ended: Vec<WorkerNumber> = self
            .table
            .iter()
            .filter(|(_, worker)| running(worker).is_some_and(has_ended))
            .map(|(number, _)| *number)
            .collect();
        ended.into_iter().filter_map(|number| self.table.remove(&number)?.process.reap(number)).collect()
    }

    /// Removes the control groups of all workers, once no process is left.
    pub(super) fn remove_groups(&self) {
        for worker in self.table.values() {
            if let Process::Runs { cgroup: Some(cgroup), .. } = &worker.process {
                cgroup.remove();
            }
        }
    }

    /// Kills what a dead worker left outside its group: as subreaper, the keeper is the parent of the topmost of
    /// such processes, and their mark says whose they are. True: there was something, look again soon.
    pub(super) fn sweep(&self, pool: &str, known: &[i32], unborn_too: bool) -> bool {
        let runs = |pid| self.table.values().any(|worker| running(worker) == Some(pid));
        let unknown = children().into_iter().filter(|pid| !known.contains(pid) && !runs(*pid)).collect();
        let mut found = false;
        for (pid, whose) in marks::whose(pool, unknown) {
            let left = match whose {
                Whose::Worker(mark) => !self.table.values().any(|worker| worker.task.mark == mark),
                // A worker-to-be of a spawner that died has not executed anything yet.
                Whose::Pool => unborn_too,
                Whose::Nobody | Whose::Closed => false,
            };
            if left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                found = true;
            }
        }
        found
    }
}

impl Process {
    /// Ends its tree: first its control group, where it has one, which nothing leaves, then its process group.
    fn kill(&self) {
        if let Self::Runs { pid, cgroup, .. } = self {
            if let Some(cgroup) = cgroup {
                cgroup.kill();
            }
            kill_group(*pid);
        }
    }

    fn reap(self, worker: WorkerNumber) -> Option<Ended> {
        self.kill();
        let Self::Runs { pid, cgroup, .. } = self else { return None };
        let cpu = processor_time::of(pid).unwrap_or_default();
        let exit = reap(pid);
        let killed = exit == Exit::Signal(Signal::SIGKILL as i32);
        let out_of_memory = killed && cgroup.is_some_and(|cgroup| cgroup.ran_out_of_memory());
        Some(Ended { worker, exit, out_of_memory, cpu })
    }
}

fn running(worker: &Worker) -> Option<i32> {
    match worker.process {
        Process::Runs { pid, .. } => Some(pid),
        Process::Asked => None,
    }
}

/// A worker leads its own group, whose number is its own and can't be another's before it is reaped.
pub(super) fn kill_group(pid: i32) {
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    // It may not have become a leader yet, or have moved to another group.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// A role is killed alone: the core leaves its group's members to nobody, the spawner's children see its end.
pub(super) fn kill_role(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

pub(super) fn terminate_group(pid: i32) {
    if killpg(Pid::from_raw(pid), Signal::SIGTERM).is_err() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Whether a child has ended, without reaping it.
pub(super) fn has_ended(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::StillAlive) => false,
        Ok(_) | Err(Errno::ECHILD) => true,
        Err(_) => false,
    }
}

/// Reaps a child that has ended.
pub(super) fn reap(pid: i32) -> Exit {
    match waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Exited(_, status)) => Exit::Status(status),
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
        // Somebody else's child after all; it is gone.
        _ => Exit::Status(-1),
    }
}

/// Reaps whatever else has ended: descendants of workers that came to the keeper. False: one that `is_known` has ended
/// meanwhile, whose status is not to be lost; what is behind it can't be seen before it is reaped.
pub(super) fn reap_unknown(is_known: impl Fn(i32) -> bool) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    while let Some(pid) = waitid(Id::All, flags | WaitPidFlag::WNOWAIT).ok().and_then(|status| status.pid()) {
        if is_known(pid.as_raw()) {
            return false;
        }
        let _ = waitid(Id::Pid(pid), flags);
    }
    true
}

/// The keeper's children at this moment.
pub(super) fn children() -> Vec<i32> {
    let own = std::process::id();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let parse = |text: &str| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    listed.map_or_else(|_| children_by_search(own), |text| parse(&text))
}

/// For kernels without `CONFIG_PROC_CHILDREN`.
fn children_by_search(own: u32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok())
            .is_some_and(|parent| parent == own)
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;

    const NUMBER: WorkerNumber = WorkerNumber(7);

    /// What runs `script` as the leader of a group of its own, in a control group.
    fn worker(script: &str, group: &Path) -> (Workers, i32) {
        let mut command = Command::new("sh");
        let pid = command.args(["-c", script]).process_group(0).spawn().unwrap().id().cast_signed();
        let mut workers = Workers::default();
        let (mark, app, start_as) = ("5f.1.7".into(), AppNumber(1), StartAs::Worker);
        workers.insert(NUMBER, Task { mark, dump_signal: 0, app, generation: 1, start_as });
        let cgroup = Some(Cgroup::at(group.as_os_str().as_bytes().to_vec()));
        *workers.get_mut(NUMBER).unwrap() = Process::Runs { pid, place: None, cgroup, finding: false };
        (workers, pid)
    }

    fn ended(workers: &mut Workers) -> Ended {
        loop {
            match workers.reap().pop() {
                Some(ended) => return ended,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn a_kill_is_one_for_want_of_memory_if_the_group_counted_one_and_the_signal_fits() {
        for (script, events, expected) in [
            ("kill -9 $$", "oom 1\noom_kill 1\n", true),
            ("kill -9 $$", "oom 0\noom_kill 0\n", false),
            ("kill -15 $$", "oom 1\noom_kill 1\n", false),
            ("exit 3", "oom 1\noom_kill 1\n", false),
        ] {
            let group = tempfile::tempdir().unwrap();
            fs::write(group.path().join("memory.events"), events).unwrap();
            let (mut workers, _) = worker(script, group.path());
            let ended = ended(&mut workers);
            assert_eq!((ended.worker, ended.out_of_memory), (NUMBER, expected), "{script} {events} {:?}", ended.exit);
            assert!(workers.get(NUMBER).is_none());
        }
    }

    /// Where control groups of version 2 can be made. Not by the name of a pool's, which the next pool would remove.
    fn real_group(name: &str) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let group = Path::new(mount).join(format!("{name}-{}", std::process::id()));
        (fs::create_dir(&group).is_ok() && group.join("cgroup.kill").exists()).then_some(group)
    }

    #[test]
    fn what_left_its_process_group_goes_with_its_control_group() {
        let Some(group) = real_group("test-of-hatchery") else {
            return eprintln!("SKIPPED: no control group of version 2 can be made here");
        };
        let script = format!("echo 0 >{}/cgroup.procs; setsid sleep 1000 & sleep 1000", group.display());
        let (mut workers, _) = worker(&script, &group);
        let processes = || fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count();
        while processes() < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        workers.kill(NUMBER);
        while processes() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        workers.remove_groups();
        assert!(!group.exists());
        assert_eq!(ended(&mut workers).exit, Exit::Signal(9));
    }
}
