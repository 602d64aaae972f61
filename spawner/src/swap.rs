//! Exchanging an app's files for another version of them: a staged update, or the backup. Runs in an errand.
//!
//! The new version is marked (`scene`), put beside the app as `NAME.deploying`, and changes places with it; then it
//! is tried, and kept or undone (`steps`). What a killed run has left, the next one finds by the marker, and finishes
//! or undoes (`recover`). The folder they all lie in is locked meanwhile, and written to the disk after each step.
//!
//! The marker is `.hatchery-deploy` in the new version, or a file `NAME.deploying-id` beside it that names its inode
//! where the version is a single file, or a folder of somebody else (root's update of a user's app).

mod clear;
mod error;
mod hands;
pub(crate) mod presence;
mod recover;
mod scene;
mod steps;
#[cfg(test)]
mod tests;
mod who;

pub(crate) use clear::clear;

use crate::errand::Answer;
use crate::reports;
use error::{Doing, SwapError};
use hands::{Gap, Hands};
use hatchery_protocol::link::{AppNumber, SwapStep};
use rustix::fs::FileType;
use scene::{Mark, Names, Origin, Scene, Spot, Stage};
use steps::Op;
use who::{Outlook, User};

/// On what terms files are exchanged.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) pool: String,
    pub(crate) app: AppNumber,
    /// Of the trial that is begun, and announced by who sent this errand.
    pub(crate) id: Option<String>,
    /// This process may become any user.
    pub(crate) privileged: bool,
    /// The app may be missing for a moment.
    pub(crate) gap: bool,
}

/// More steps than any recovery has.
const RECOVERY: usize = 16;

/// Does a step. What it answers with if that fails says why; then the app's files are what they were.
pub(crate) fn swap(root: &[u8], step: SwapStep, terms: &Terms) -> Answer {
    let done = match (Names::of(root), step) {
        (None, _) => Err(SwapError::NoName(String::from_utf8_lossy(root).into_owned())),
        (Some(names), SwapStep::Take) => put_in_place(&names, Origin::Update, terms),
        (Some(names), SwapStep::Back) => put_in_place(&names, Origin::Backup, terms),
        (Some(names), SwapStep::Keep) => conclude(&names, Verdict::Keep, terms),
        (Some(names), SwapStep::Undo) => conclude(&names, Verdict::Undo, terms),
    };
    match done {
        Ok(()) => Answer::Swapped,
        Err(error) => Answer::Failed(reports::update(root, error.to_string(), error.remedy())),
    }
}

fn put_in_place(names: &Names, origin: Origin, terms: &Terms) -> Result<(), SwapError> {
    let Some(id) = terms.id.clone() else { return Err(SwapError::Unannounced(names.path(Spot::Name))) };
    recover(names, terms.privileged)?;
    let outlook = who::outlook(names)?;
    let user = permitted(names, &outlook.scene, origin)?;
    who::become_user(user, names, &outlook, terms.privileged)?;
    flush(names, &outlook)?;
    let hands = Hands::open(names, &outlook)?;
    let scene = hands.scene()?;
    permitted(names, &scene, origin)?;
    if scene.at(Spot::Deploying).is_some() {
        let tried = [Spot::Name, Spot::Deploying].into_iter().any(|spot| scene.mark(spot).is_some());
        let error = if tried { SwapError::UnderWay } else { SwapError::InTheWay };
        return Err(error(names.path(if tried { Spot::Name } else { Spot::Deploying })));
    }
    if scene.at(Spot::Gap).is_some() {
        return Err(SwapError::InTheWay(names.path(Spot::Gap)));
    }
    let own = |mark: &Mark| mark.id == id;
    let mark = Mark { id: id.clone(), pool: terms.pool.clone(), app: terms.app, origin, stage: Stage::Trying };
    let gap = if terms.gap { Gap::Permitted } else { Gap::Refused };
    let done = perform(&hands, &steps::begin(mark), gap);
    if done.is_err()
        && let Err(error) = tidy(&hands, |mark| !own(mark) && under_way(mark))
    {
        eprintln!("spawner: {error}. {}", error.remedy());
    }
    done
}

/// Whose exchange it is, if it may be.
fn permitted(names: &Names, scene: &Scene, origin: Origin) -> Result<User, SwapError> {
    let (spot, absent): (_, fn(_) -> _) = match origin {
        Origin::Update => (Spot::Update, SwapError::Missing),
        Origin::Backup => (Spot::Backup, SwapError::NoBackup),
    };
    let present = scene.at(Spot::Name).ok_or_else(|| SwapError::Missing(names.path(Spot::Name)))?;
    if present.kind == FileType::Symlink {
        return Err(SwapError::Link(names.path(Spot::Name)));
    }
    let new = scene.at(spot).ok_or_else(|| absent(names.path(spot)))?;
    if !new.is_version() {
        return Err(SwapError::NoVersion { path: names.path(spot), what: crate::folder::name(new.kind) });
    }
    if new.kind != present.kind {
        return Err(SwapError::kinds(names, spot, new.kind, present.kind));
    }
    let owner = who::owner(present, new).filter(|_| {
        // A backup of a user's app that root has updated is that user's: whether it may come back in place of root's,
        // the kernel says by who may rename there.
        origin == Origin::Backup || new.uid == present.uid || new.uid == 0
    });
    owner.ok_or_else(|| SwapError::owners(names, spot, new.uid, present.uid))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Undo,
}

fn conclude(names: &Names, verdict: Verdict, terms: &Terms) -> Result<(), SwapError> {
    let outlook = who::outlook(names)?;
    let user = pair_owner(&outlook).ok_or_else(|| SwapError::NothingTried(names.path(Spot::Name)))?;
    who::become_user(user, names, &outlook, terms.privileged)?;
    let hands = Hands::open(names, &outlook)?;
    let scene = hands.scene()?;
    if let Some(mark) = scene.mark(Spot::Name)
        && (&mark.pool, mark.app) != (&terms.pool, terms.app)
    {
        return Err(SwapError::UnderWay(names.path(Spot::Name)));
    }
    match verdict {
        Verdict::Keep => {
            let ops = steps::keep(&scene).ok_or_else(|| SwapError::NothingTried(names.path(Spot::Name)))?;
            perform(&hands, &ops, Gap::Refused)
        }
        Verdict::Undo => match steps::undo(&scene) {
            // It was exchanged with a gap if there had to be one.
            Some(ops) => perform(&hands, &ops, Gap::Permitted),
            None if scene.mark(Spot::Name).is_some() => Err(SwapError::NothingBefore(names.path(Spot::Deploying))),
            // The version before is back already.
            None => Ok(()),
        },
    }
}

/// Whose versions lie there. `None`: there are none, or of two who need not trust each other.
fn pair_owner(outlook: &Outlook) -> Option<User> {
    let versions = [Spot::Name, Spot::Deploying, Spot::Gap];
    let mut versions =
        versions.into_iter().filter_map(|spot| outlook.scene.at(spot)).filter(|entry| entry.is_version());
    let first = versions.next()?;
    let mut owner = Some((first.uid, first.gid));
    for entry in versions {
        let known = owner?;
        owner = match (known.0, entry.uid) {
            (one, two) if one == two || two == 0 => Some(known),
            (0, _) => Some((entry.uid, entry.gid)),
            (_, _) => None,
        };
    }
    owner
}

/// Finishes or undoes what a killed exchange has left beside `root`, before anything looks into it.
pub(crate) fn before_inspection(root: &[u8], privileged: bool) {
    let Some(names) = Names::of(root) else { return };
    if let Err(error) = recover(&names, privileged) {
        eprintln!("spawner: {error}. {}", error.remedy());
    }
}

fn recover(names: &Names, privileged: bool) -> Result<(), SwapError> {
    // What can't be seen is for the step itself, or the inspection, to say.
    let Ok(outlook) = who::outlook(names) else { return Ok(()) };
    let left = [Spot::Deploying, Spot::Gap].into_iter().any(|spot| outlook.scene.at(spot).is_some());
    if !left && !outlook.marked {
        return Ok(());
    }
    let Some(user) = pair_owner(&outlook) else { return Ok(()) };
    let work = || {
        who::become_user(user, names, &outlook, privileged)?;
        tidy(&Hands::open(names, &outlook)?, under_way)
    };
    if !privileged || user.0 == 0 {
        return work();
    }
    who::apart(work).map_err(|error| SwapError::Assume { user: crate::users::name_of(user.0), error })
}

/// Whether somebody waits for a verdict on it.
fn under_way(mark: &Mark) -> bool {
    presence::is_under_way(&mark.id)
}

fn tidy(hands: &Hands, under_way: impl Fn(&Mark) -> bool) -> Result<(), SwapError> {
    for _ in 0..RECOVERY {
        let Some(op) = recover::next(&hands.scene()?, &under_way) else { break };
        hands.perform(&op, Gap::Permitted)?;
    }
    Ok(())
}

fn perform(hands: &Hands, ops: &[Op], gap: Gap) -> Result<(), SwapError> {
    ops.iter().try_for_each(|op| hands.perform(op, gap))
}

/// Has the new version's files written to the disk: what is in place after a loss of power shall be whole.
fn flush(names: &Names, outlook: &Outlook) -> Result<(), SwapError> {
    rustix::fs::syncfs(outlook.open_parent(names)?).map_err(|errno| SwapError::Step {
        doing: Doing::Flushing,
        path: names.path(Spot::Name),
        error: errno.into(),
    })
}
