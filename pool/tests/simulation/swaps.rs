//! What is said of staged updates: how the steps of an exchange follow each other, and who is told (invariant 22 of
//! `docs/architecture.md`).

use super::{Books, Checked};
use hatchery_pool::{Answer, AppId, Effect, Event, Notice, Request, SwapStep};

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// An exchange of one app's files.
#[derive(Default)]
pub(super) struct Swap {
    stage: Stage,
    asker: Option<Request>,
    /// What has to be said in this step.
    over: Option<Over>,
    failed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Nothing,
    Exchanging,
    /// By which generation, and whether a worker of that became ready.
    Trying(Option<u64>, bool),
    Keeping,
    Undoing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Refused,
    Kept,
    Undone,
}

impl Swap {
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Nothing
    }

    pub(super) fn is_in_between(&self) -> bool {
        matches!(self.stage, Stage::Exchanging | Stage::Undoing)
    }

    pub(super) fn is_trying(&self) -> bool {
        matches!(self.stage, Stage::Trying(..))
    }

    /// Whether a step is under way.
    pub(super) fn is_asked(&self) -> bool {
        !self.is_over() && !self.is_trying()
    }

    pub(super) fn is_asked_by(&self, request: Request) -> bool {
        !self.is_over() && self.asker == Some(request)
    }

    pub(super) fn is_tried_by(&mut self, generation: u64) {
        if self.is_trying() {
            self.stage = Stage::Trying(Some(generation), false);
        }
    }

    pub(super) fn proves(&mut self, by: u64) {
        if let Stage::Trying(Some(generation), _) = self.stage
            && by >= generation
        {
            self.stage = Stage::Trying(Some(generation), true);
        }
    }

    fn done(&mut self, failed: bool) {
        (self.stage, self.over, self.failed) = match self.stage {
            Stage::Exchanging if failed => (Stage::Nothing, Some(Over::Refused), false),
            Stage::Exchanging => (Stage::Trying(None, false), None, false),
            Stage::Keeping => (Stage::Nothing, Some(Over::Kept), failed),
            Stage::Undoing => (Stage::Nothing, Some(Over::Undone), failed),
            stage => (stage, None, false),
        };
    }

    pub(super) fn check(&self, app: AppId, restarting: bool) -> Checked {
        let said = self.over.is_none() && !self.failed;
        ensure!(said, "nobody is told that the update of {app} is {:?} (invariant 22)", self.over);
        match self.stage {
            Stage::Trying(_, true) => Err(format!("the update of {app} works, and is not kept (invariant 22)")),
            Stage::Trying(..) if !restarting => Err(format!("nobody tries the update of {app} (invariant 22)")),
            _ => Ok(()),
        }
    }
}

impl Books {
    pub(super) fn told_of_swaps(&mut self, event: &Event) {
        self.staged = match event {
            Event::Staged { request, root } => self.app_at(root).map(|app| (app, *request, SwapStep::Take)),
            Event::RolledBack { request, root } => self.app_at(root).map(|app| (app, *request, SwapStep::Back)),
            _ => None,
        };
        if let Event::SwapDone { app, report } = event {
            let ended = self.ended;
            let swap = &mut self.deploy(*app).swap;
            swap.done(report.is_some());
            if ended {
                *swap = Swap::default();
            }
        }
    }

    pub(super) fn ordered_for_swaps(&mut self, effect: &Effect) -> Checked {
        match *effect {
            Effect::Swap { app, step: step @ (SwapStep::Take | SwapStep::Back) } => {
                let staged = self.staged.take().filter(|staged| (staged.0, staged.2) == (app, step));
                let Some((_, asker, _)) = staged else { return Err(format!("{step:?} of {app}, asked by nobody")) };
                self.send_starting_away(app);
                let swap = &mut self.deploy(app).swap;
                ensure!(swap.is_over(), "{app} is exchanged twice at a time (invariant 22)");
                (swap.stage, swap.asker) = (Stage::Exchanging, asker);
            }
            Effect::Swap { app, step: SwapStep::Keep } => {
                let swap = &mut self.deploy(app).swap;
                ensure!(matches!(swap.stage, Stage::Trying(_, true)), "{app} keeps {:?} (invariant 22)", swap.stage);
                swap.stage = Stage::Keeping;
            }
            Effect::Swap { app, step: SwapStep::Undo } => {
                self.send_starting_away(app);
                let swap = &mut self.deploy(app).swap;
                ensure!(matches!(swap.stage, Stage::Trying(_, false)), "{app} undoes {:?} (invariant 22)", swap.stage);
                swap.stage = Stage::Undoing;
            }
            Effect::Notice(Notice::UpdateRefused { app, .. }) => self.is_said(app, Over::Refused)?,
            Effect::Notice(Notice::Updated { app }) => self.is_said(app, Over::Kept)?,
            Effect::Notice(Notice::UpdateUndone { app }) => self.is_said(app, Over::Undone)?,
            Effect::Notice(Notice::SwapFailed { app, .. }) => {
                let failed = std::mem::take(&mut self.deploy(app).swap.failed);
                ensure!(failed, "a step of the exchange of {app} failed, which did not (invariant 22)");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_said(&mut self, app: AppId, what: Over) -> Checked {
        let over = self.deploy(app).swap.over.take();
        ensure!(over == Some(what), "the update of {app} is said to be {what:?}, and is {over:?} (invariant 22)");
        Ok(())
    }

    /// Somebody who asked for an update is answered.
    pub(super) fn answered_update(&mut self, root: &[u8], request: Request, answer: &Answer) -> Checked {
        let Some(app) = self.app_at(root) else { return Ok(()) };
        let ending = self.ending;
        let swap = &mut self.deploy(app).swap;
        let own = swap.asker == Some(request);
        let answered = match answer {
            Answer::Done => own && swap.is_over() && matches!(swap.over, None | Some(Over::Kept)),
            Answer::Refused(_) => ending || !own || swap.is_over(),
        };
        ensure!(answered, "an update of {app}, {:?}, is answered with {answer:?} (invariant 22)", swap.stage);
        if own {
            swap.asker = None;
        }
        Ok(())
    }
}
