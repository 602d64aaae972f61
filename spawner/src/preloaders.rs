//! The channels to loaders: of each worker until it serves, of each preloader for all its life.

use crate::control::{self, Heard, Said, Trouble};
use crate::launch::Story;
use hatchery_protocol::link::WorkerNumber;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many channels may there be.
pub(crate) const CHANNELS: usize = 512;

/// What the process at the other end may be told, and may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A worker that does not serve yet.
    Worker,
    /// A preloader that loads its app.
    Loading,
    /// One that waits for orders.
    Ready,
    /// It has said why it goes no further.
    Ending,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) worker: WorkerNumber,
    stage: Stage,
    /// What a report tells of it.
    pub(crate) story: Story,
    end: OwnedFd,
}

/// What became known.
#[derive(Debug)]
pub(crate) enum News {
    Failed(Trouble),
    Ready,
    Unfit(String),
    /// The channel is of no more use; `nonsense`: because of what came through it.
    Over {
        nonsense: bool,
    },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Channels(Vec<Channel>);

impl Channels {
    pub(crate) fn push(&mut self, worker: WorkerNumber, stage: Stage, story: Story, end: OwnedFd) {
        self.0.push(Channel { worker, stage, story, end });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter()
    }

    pub(crate) fn get_mut(&mut self, worker: WorkerNumber) -> Option<&mut Channel> {
        self.0.iter_mut().find(|channel| channel.worker == worker)
    }

    /// The preloader of this number, if it takes orders.
    pub(crate) fn preloader(&self, number: WorkerNumber) -> Option<&Channel> {
        self.0.iter().find(|channel| channel.worker == number && channel.stage == Stage::Ready)
    }

    pub(crate) fn remove(&mut self, worker: WorkerNumber) {
        self.0.retain(|channel| channel.worker != worker);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Channel {
    /// Reads what was said. `None`: nothing more for now.
    pub(crate) fn hear(&mut self) -> Option<News> {
        let said = match control::hear(&self.end) {
            Heard::Nothing => return None,
            Heard::End => return Some(News::Over { nonsense: false }),
            Heard::Nonsense => return Some(News::Over { nonsense: true }),
            Heard::Said(said, _) => said,
        };
        let (news, next) = match (self.stage, said) {
            (Stage::Worker | Stage::Loading | Stage::Ready, Said::Failed(trouble)) => {
                (News::Failed(trouble), Stage::Ending)
            }
            (Stage::Loading, Said::Ready) => (News::Ready, Stage::Ready),
            (Stage::Loading, Said::Unfit(why)) => (News::Unfit(why), Stage::Ending),
            _ => return Some(News::Over { nonsense: true }),
        };
        self.stage = next;
        Some(news)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
