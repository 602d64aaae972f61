//! What a killed exchange has left, finished or undone.
//!
//! `*` is the marker, which travels with the new version; `N` is `NAME`, `D` `NAME.deploying`, `U` `NAME.update`, `B`
//! `NAME.backup`, `F` `NAME.failed`, `G` the gap's private name. A killed exchange leaves one of these, in the order
//! of its steps; each row's step leads to a later row, or to the end, and may itself be killed.
//!
//! | left by | what is there | step |
//! | --- | --- | --- |
//! | gap, after its 1st move | `G`, no `N` | `G` → `N` |
//! | gap, after its 2nd move | `G`, `N`, no `D` | `G` → `D` |
//! | *Take*, marked | `N`, `U*` | unmark `U` |
//! | *Take*, renamed | `N`, `D*` trying | `D` → `U`; there is a newer `U`: → `F` |
//! | *Back*, marked | `N`, `B*` | unmark `B` |
//! | *Back*, renamed | `N`, `D*` trying, no `B` | `D` → `B` |
//! | *Take*, *Back*, exchanged, no verdict | `N*` trying, `D` | exchange |
//! | *Keep*, said | `N*` keep, `D` | an older `B` aside, `D` → `B` |
//! | *Keep*, put away | `N*`, no `D` | unmark `N` |
//! | *Undo*, said | `N*` undo, `D` | exchange |
//! | *Undo*, exchanged | `N`, `D*` undo | an older `F` aside, `D` → `F` |
//! | *Undo*, put away | `N`, `F*` | unmark `F` |
//! | unmarked, and a marker beside them | stray `*` | remove it |
//!
//! So `N` is the old version or the new one, whole, in each row but the first. A `D` without a marker at itself or at
//! `N` is none of ours, and stays. What somebody still waits for a verdict on is left as it is.

use super::scene::{Mark, Origin, Scene, Spot, Stage};
use super::steps::Op;

/// The next step towards nothing being left. `None`: nothing is, or what there is is `under_way`.
pub(super) fn next(scene: &Scene, under_way: impl Fn(&Mark) -> bool) -> Option<Op> {
    let marks = Spot::ALL.map(|spot| scene.mark(spot));
    if marks.into_iter().flatten().chain(&scene.stray).any(under_way) {
        return None;
    }
    if scene.at(Spot::Gap).is_some() {
        if scene.at(Spot::Name).is_none() {
            return Some(Op::Move(Spot::Gap, Spot::Name));
        }
        if scene.at(Spot::Deploying).is_none() {
            return Some(Op::Move(Spot::Gap, Spot::Deploying));
        }
    }
    // What was planted there is no version to go back to.
    let deploying = scene.at(Spot::Deploying).filter(|entry| entry.is_version());
    let deploying_mark = scene.mark(Spot::Deploying);
    if let Some(mark) = scene.mark(Spot::Name) {
        return Some(match (mark.stage, deploying) {
            (Stage::Keep, Some(_)) if scene.at(Spot::Backup).is_some() => Op::PutAside(Spot::Backup),
            (Stage::Keep, Some(_)) => Op::Move(Spot::Deploying, Spot::Backup),
            (Stage::Trying | Stage::Undo, Some(_)) if deploying_mark.is_none() => Op::Exchange,
            (_, _) => Op::Unmark(Spot::Name),
        });
    }
    if let Some(mark) = deploying_mark {
        let home = match (mark.stage, mark.origin) {
            (Stage::Undo, _) => Spot::Failed,
            (_, Origin::Update) if scene.at(Spot::Update).is_none() => Spot::Update,
            (_, Origin::Backup) if scene.at(Spot::Backup).is_none() => Spot::Backup,
            (_, _) => Spot::Failed,
        };
        return Some(match scene.at(home) {
            Some(_) => Op::PutAside(home),
            None => Op::Move(Spot::Deploying, home),
        });
    }
    let spots = [Spot::Update, Spot::Backup, Spot::Failed];
    if let Some(spot) = spots.into_iter().find(|spot| scene.mark(*spot).is_some()) {
        return Some(Op::Unmark(spot));
    }
    scene.stray.as_ref().map(|_| Op::DropStray)
}
