//! What a new process says of itself before it executes its program.

use libc::pid_t;

/// Where the failure was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    Fork,
    /// The keeper did not become the parent.
    Parent,
    Session,
    Descriptors,
    /// One of the limits that are required.
    Limit,
    /// Joining the worker's control group.
    ControlGroup,
    /// Becoming the worker's user.
    Identity,
    Directory,
    DeathSignal,
    Execute,
}

impl Stage {
    fn from(byte: u8) -> Option<Self> {
        [
            Self::Fork,
            Self::Parent,
            Self::Session,
            Self::Descriptors,
            Self::Limit,
            Self::ControlGroup,
            Self::Identity,
            Self::Directory,
            Self::DeathSignal,
            Self::Execute,
        ]
        .into_iter()
        .find(|stage| *stage as u8 == byte)
    }
}

/// What the new process says, one packet each. The end of the channel says that the program is executing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Pid(pid_t),
    Failed(Failure),
    /// The limit with this number is not applied, and need not be.
    Missed {
        limit: usize,
        errno: i32,
    },
}

/// The limit of a `Missed` that is about the worker's control group, which it could not join.
pub(crate) const CONTROL_GROUP: u8 = u8::MAX;

/// The first byte of each kind of word.
pub(crate) const PID: u8 = 0;
pub(crate) const FAILED: u8 = 1;
pub(crate) const MISSED: u8 = 2;

/// Why there is no worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
    /// Which of the candidates, of the levels of the directory, or of the limits it is about.
    pub(crate) index: usize,
    /// The mode of what is there; 0: nothing is.
    pub(crate) mode: u32,
    /// The file's first bytes.
    pub(crate) head: Vec<u8>,
}

/// The bytes before the head.
pub(crate) const HEADER: usize = 12;
/// How much of a file is told.
pub(crate) const HEAD: usize = 256;
/// The longest word in bytes.
pub(crate) const WORD: usize = HEADER + HEAD;

impl Word {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [PID, pid @ ..] => Some(Self::Pid(pid_t::from_ne_bytes(pid.try_into().ok()?))),
            [FAILED, stage, i0, i1, e0, e1, e2, e3, m0, m1, m2, m3, head @ ..] => Some(Self::Failed(Failure {
                stage: Stage::from(*stage)?,
                index: usize::from(u16::from_ne_bytes([*i0, *i1])),
                errno: i32::from_ne_bytes([*e0, *e1, *e2, *e3]),
                mode: u32::from_ne_bytes([*m0, *m1, *m2, *m3]),
                head: head.to_vec(),
            })),
            [MISSED, limit, errno @ ..] => {
                Some(Self::Missed { limit: usize::from(*limit), errno: i32::from_ne_bytes(errno.try_into().ok()?) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        assert_eq!(Word::decode(&[0, 1, 0, 0, 0]), Some(Word::Pid(pid_t::from_ne_bytes([1, 0, 0, 0]))));
        let mut bytes = vec![1, Stage::Directory as u8];
        bytes.extend(3_u16.to_ne_bytes());
        bytes.extend(13_i32.to_ne_bytes());
        bytes.extend(0o040_700_u32.to_ne_bytes());
        bytes.extend(b"#!");
        let failure = Failure { stage: Stage::Directory, errno: 13, index: 3, mode: 0o040_700, head: b"#!".to_vec() };
        assert_eq!(Word::decode(&bytes), Some(Word::Failed(failure)));
        let mut bytes = vec![MISSED, 4];
        bytes.extend(13_i32.to_ne_bytes());
        assert_eq!(Word::decode(&bytes), Some(Word::Missed { limit: 4, errno: 13 }));
    }

    #[test]
    fn other_bytes_are_no_words() {
        for bytes in [
            &b""[..],
            &[0],
            &[0, 1, 2],
            &[2, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0],
            &[1, 0, 0],
            &[1, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Word::decode(bytes), None, "{bytes:?}");
        }
    }
}
