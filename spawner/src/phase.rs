//! Which message is permitted when. All else ends the link: its sender is broken, or no keeper.

use hatchery_protocol::link::ToSpawner;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has said yet whose spawner this is.
    Expectant,
    Serving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool-server sent {message} {when}")]
pub(crate) struct OutOfTurn {
    message: &'static str,
    when: &'static str,
}

impl Phase {
    /// The table.
    pub(crate) fn permits(self, message: &ToSpawner) -> Result<(), OutOfTurn> {
        let permitted = match message {
            ToSpawner::Begin { .. } => self == Self::Expectant,
            ToSpawner::Inspect { .. }
            | ToSpawner::Examine { .. }
            | ToSpawner::Configure
            | ToSpawner::Look { .. }
            | ToSpawner::Swap { .. }
            | ToSpawner::Spawn { .. }
            | ToSpawner::Find { .. }
            | ToSpawner::Gone { .. } => self == Self::Serving,
        };
        if permitted { Ok(()) } else { Err(self.out_of_turn(name(message))) }
    }

    fn out_of_turn(self, message: &'static str) -> OutOfTurn {
        let when = match self {
            Self::Expectant => "before Begin",
            Self::Serving => "a second time",
        };
        OutOfTurn { message, when }
    }
}

/// A worker was to be started under the number of another.
pub(crate) const SECOND_SPAWN: OutOfTurn = OutOfTurn { message: "Spawn", when: "for a worker that is there already" };

/// A worker was to be started that no sweep would find.
pub(crate) const FOREIGN_MARK: OutOfTurn = OutOfTurn { message: "Spawn", when: "with the mark of another pool" };

/// The pool has no name, or its runtime folder is no path of a folder.
pub(crate) const NO_FOLDER: OutOfTurn = OutOfTurn { message: "Begin", when: "without a pool or its folder" };

fn name(message: &ToSpawner) -> &'static str {
    match message {
        ToSpawner::Begin { .. } => "Begin",
        ToSpawner::Inspect { .. } => "Inspect",
        ToSpawner::Examine { .. } => "Examine",
        ToSpawner::Configure => "Configure",
        ToSpawner::Look { .. } => "Look",
        ToSpawner::Swap { .. } => "Swap",
        ToSpawner::Spawn { .. } => "Spawn",
        ToSpawner::Find { .. } => "Find",
        ToSpawner::Gone { .. } => "Gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::link::WorkerNumber;

    #[test]
    fn begin_comes_first_and_once() {
        let begin =
            ToSpawner::Begin { pool: "p".into(), folder: b"/run/x".to_vec(), reserved: Vec::new(), pool_user: None };
        let gone = ToSpawner::Gone { worker: WorkerNumber(1) };
        assert!(Phase::Expectant.permits(&begin).is_ok());
        assert!(Phase::Serving.permits(&gone).is_ok());
        let early = Phase::Expectant.permits(&gone).unwrap_err();
        assert_eq!(early.to_string(), "the pool-server sent Gone before Begin");
        let twice = Phase::Serving.permits(&begin).unwrap_err();
        assert_eq!(twice.to_string(), "the pool-server sent Begin a second time");
    }
}
