//! All errands: how many run at once, which wait, which hang.

use crate::errand::{Answer, Errand, ErrandError, Purpose};
use crate::examine;
use crate::find;
use crate::identity::Rules;
use crate::inspect;
use crate::look;
use crate::reports;
use crate::swap::{self, Terms};
use hatchery_protocol::link::{AppNumber, WorkerNumber};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::SpawnReport;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

/// Errands that wait for others to end, beyond which no folder is looked into.
const QUEUE: usize = 1024;

/// Errands that hang in the kernel, beyond which none is added to them.
const HANGING: usize = 64;

/// What an errand needs to know beyond its purpose.
#[derive(Debug)]
pub(crate) enum Detail {
    /// With the settings that hold for the app.
    Inspect(Box<AppOptions>, Rc<Rules>),
    Look(Box<AppOptions>, Rc<Rules>),
    Swap(Terms),
    /// With the app's root, and whether this process may become any user.
    Clear(Vec<u8>, bool),
    Find,
    /// With the worker's mark, its control group if it has one, and the processes of other workers.
    Examine(String, Option<PathBuf>, Vec<i32>),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
pub(crate) struct Errands {
    under_way: Vec<Errand>,
    queue: VecDeque<(Purpose, Detail)>,
    /// Errands that have answered or were killed, and are not reaped.
    leaving: BTreeMap<i32, Purpose>,
    /// Those of them that took too long: what hangs in the kernel stays here.
    late: BTreeSet<i32>,
}

/// What came of an errand.
pub(crate) type Heard = Result<(Answer, Option<OwnedFd>), ErrandError>;

impl Errands {
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Errand> {
        self.under_way.iter()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.under_way.iter().filter_map(|errand| errand.deadline).min()
    }

    /// Why `root` can't be looked into now.
    pub(crate) fn refusal(&self, root: &[u8]) -> Option<Box<SpawnReport>> {
        let hangs = |purpose: &Purpose| match purpose {
            Purpose::Inspect { root: other, .. } | Purpose::Swap { root: other, .. } => other == root,
            _ => false,
        };
        if self.late.iter().filter_map(|pid| self.leaving.get(pid)).any(hangs) {
            Some(reports::inspection_hangs(root))
        } else if self.is_overrun() {
            Some(reports::too_busy(root))
        } else {
            None
        }
    }

    /// Whether a look at `app` waits, is under way or hangs.
    pub(crate) fn looks_at(&self, app: AppNumber) -> bool {
        let looks = |purpose: &Purpose| matches!(purpose, Purpose::Look { app: other, .. } if *other == app);
        let late = self.late.iter().filter_map(|pid| self.leaving.get(pid));
        let mut all = self.under_way.iter().map(|errand| &errand.purpose).chain(late);
        all.any(looks) || self.queue.iter().any(|(purpose, _)| looks(purpose))
    }

    /// So many wait or hang that none should be added which somebody waits for.
    pub(crate) fn is_overrun(&self) -> bool {
        self.queue.len() >= QUEUE || self.late.len() >= HANGING
    }

    pub(crate) fn push(&mut self, purpose: Purpose, detail: Detail) {
        self.queue.push_back((purpose, detail));
    }

    /// Starts what there is room for. Answers with those that could not be started.
    pub(crate) fn start(&mut self) -> Vec<(Purpose, ErrandError)> {
        let mut failed = Vec::new();
        let mut index = 0;
        while let Some((purpose, _)) = self.queue.get(index) {
            if !self.has_room_for(purpose) {
                index += 1;
                continue;
            }
            let Some((purpose, detail)) = self.queue.remove(index) else { break };
            match Errand::start(purpose.clone(), |purpose| run(purpose, detail)) {
                Ok(errand) => self.under_way.push(errand),
                Err(error) => failed.push((purpose, error.into())),
            }
        }
        failed
    }

    fn has_room_for(&self, purpose: &Purpose) -> bool {
        let same = |other: &&Purpose| std::mem::discriminant(*other) == std::mem::discriminant(purpose);
        // What hangs does not keep others from being done.
        let leaving = self.leaving.iter().filter(|(pid, _)| !self.late.contains(pid)).map(|(_, purpose)| purpose);
        let all = self.under_way.iter().map(|errand| &errand.purpose).chain(leaving);
        all.filter(same).count() < purpose.limit()
    }

    /// Reads the answer of the errand with this process. `None`: it is not there yet.
    pub(crate) fn hear(&mut self, pid: i32) -> Option<(Purpose, Heard)> {
        let index = self.under_way.iter().position(|errand| errand.pid == pid)?;
        let heard = self.under_way[index].hear()?;
        Some((self.end(index), heard))
    }

    /// Ends the errands that have taken too long, and answers with what they were for.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Purpose> {
        let late = |errand: &Errand| errand.deadline.is_some_and(|deadline| deadline <= now);
        let mut expired = Vec::new();
        while let Some(index) = self.under_way.iter().position(late) {
            let pid = self.under_way[index].pid;
            expired.push(self.end(index));
            if self.leaving.contains_key(&pid) {
                self.late.insert(pid);
            }
        }
        expired
    }

    /// The worker is gone, or is looked for anew.
    pub(crate) fn stop_finding(&mut self, worker: WorkerNumber) {
        let finds = |purpose: &Purpose| matches!(purpose, Purpose::Find { worker: other, .. } if *other == worker);
        self.queue.retain(|(purpose, _)| !finds(purpose));
        while let Some(index) = self.under_way.iter().position(|errand| finds(&errand.purpose)) {
            self.end(index);
        }
    }

    /// Takes an errand off the list; it is reaped when it has ended.
    fn end(&mut self, index: usize) -> Purpose {
        let errand = self.under_way.swap_remove(index);
        if !errand.reaped {
            errand.kill();
            self.leaving.insert(errand.pid, errand.purpose.clone());
        }
        errand.purpose
    }

    /// A child of this process is reaped: its pid may be another's from now on.
    pub(crate) fn reaped(&mut self, pid: i32) {
        self.leaving.remove(&pid);
        self.late.remove(&pid);
        // Its answer may still be unread: `hear` finds that, or the end.
        if let Some(errand) = self.under_way.iter_mut().find(|errand| errand.pid == pid) {
            errand.reaped = true;
        }
    }

    pub(crate) fn kill(&self) {
        for errand in &self.under_way {
            errand.kill();
        }
    }
}

/// In the child.
fn run(purpose: &Purpose, detail: Detail) -> (Answer, Option<OwnedFd>) {
    match (purpose, detail) {
        (Purpose::Inspect { root, .. }, Detail::Inspect(settings, rules)) => {
            swap::before_inspection(root, rules.privileged);
            (inspect::inspect(root, *settings, &rules), None)
        }
        (Purpose::Look { root, .. }, Detail::Look(settings, rules)) => {
            (Answer::Sight(look::look(root, &settings, &rules).map(Box::new)), None)
        }
        (Purpose::Swap { root, step, .. }, Detail::Swap(terms)) => (swap::swap(root, *step, &terms), None),
        (Purpose::Clear, Detail::Clear(root, privileged)) => {
            swap::clear(&root, privileged);
            (Answer::Removed, None)
        }
        (Purpose::Find { pid, place, owner, .. }, Detail::Find) => find::find(*pid, place, *owner),
        (Purpose::Examine { pid, .. }, Detail::Examine(mark, group, others)) => {
            (Answer::Findings(Box::new(examine::examine(*pid, &mark, group.as_deref(), &others))), None)
        }
        (_, Detail::Remove(folder)) => {
            let _ = std::fs::remove_dir_all(folder);
            (Answer::Removed, None)
        }
        (purpose, _) => (Answer::Failed(reports::wrong_answer(purpose)), None),
    }
}
