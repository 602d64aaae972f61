//! The steps of an exchange, as lists: what is done is decided here, from what lies there; `hands` does it.

use super::scene::{Mark, Origin, Scene, Spot, Stage};

/// One thing that is done, after which the disk is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The version there is the new one, and this far.
    Mark(Spot, Mark),
    /// It is no more than any other.
    Unmark(Spot),
    /// A marker beside the versions, of none of them, goes.
    DropStray,
    /// To a spot where nothing is.
    Move(Spot, Spot),
    /// `NAME` and `NAME.deploying` change places, at once.
    Exchange,
    /// To a private name; what is there is removed later.
    PutAside(Spot),
}

/// The exchange where the file system has none: between the first two there is no `NAME`.
pub(super) const EXCHANGE_WITH_GAP: [Op; 3] =
    [Op::Move(Spot::Name, Spot::Gap), Op::Move(Spot::Deploying, Spot::Name), Op::Move(Spot::Gap, Spot::Deploying)];

/// Puts a new version in place, to be tried.
pub(super) fn begin(mark: Mark) -> Vec<Op> {
    let from = match mark.origin {
        Origin::Update => Spot::Update,
        Origin::Backup => Spot::Backup,
    };
    vec![Op::Mark(from, mark), Op::Move(from, Spot::Deploying), Op::Exchange]
}

/// What was put in place stays. `None`: nothing is tried there.
pub(super) fn keep(scene: &Scene) -> Option<Vec<Op>> {
    let mark = scene.mark(Spot::Name)?.clone();
    let mut ops = Vec::new();
    if scene.at(Spot::Deploying).is_some() {
        ops.push(Op::Mark(Spot::Name, Mark { stage: Stage::Keep, ..mark }));
        ops.extend(put_away(scene, Spot::Backup));
    }
    ops.push(Op::Unmark(Spot::Name));
    Some(ops)
}

/// What was there before comes back. `None`: nothing is tried there.
pub(super) fn undo(scene: &Scene) -> Option<Vec<Op>> {
    let mark = scene.mark(Spot::Name)?.clone();
    scene.at(Spot::Deploying).filter(|entry| entry.is_version())?;
    let mut ops = vec![Op::Mark(Spot::Name, Mark { stage: Stage::Undo, ..mark }), Op::Exchange];
    ops.extend(put_away(scene, Spot::Failed));
    ops.push(Op::Unmark(Spot::Failed));
    Some(ops)
}

/// `NAME.deploying` to `spot`, in place of what is there.
fn put_away(scene: &Scene, spot: Spot) -> Vec<Op> {
    let mut ops = Vec::new();
    if scene.at(spot).is_some() {
        ops.push(Op::PutAside(spot));
    }
    ops.push(Op::Move(Spot::Deploying, spot));
    ops
}
