//! How much of the core the admin socket may take.
//!
//! | bound | value |
//! | --- | --- |
//! | connections at once | 512 |
//! | of them, of users who may not say everything | 256, and 32 of each such user |
//! | commands of such a user that are worked on at once | 1, and then nothing for as long as that took |
//! | answers that nobody has read yet, all together | 64 MiB |

use super::rights::Rights;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::Semaphore;

const CONNECTIONS: usize = 512;
const FOREIGN: usize = 256;
const OF_A_USER: usize = 32;
/// In bytes.
const UNREAD: usize = 64 << 20;

/// What is taken.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Bounds(Rc<RefCell<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    foreign: usize,
    of_users: HashMap<u32, OfUser>,
    unread: usize,
}

#[derive(Debug)]
struct OfUser {
    connections: usize,
    turn: Rc<Semaphore>,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{CONNECTIONS} connections are open at this socket; close some")]
    Connections,
    #[error("{FOREIGN} connections of users who may not say everything are open at this socket; try again later")]
    Foreign,
    #[error("user {0} has {OF_A_USER} connections to this socket; close some")]
    OfUser(u32),
}

/// The place of one connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    bounds: Bounds,
    foreigner: Option<u32>,
    turn: Option<Rc<Semaphore>>,
}

/// Bytes of an answer, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bounds: Bounds,
    bytes: usize,
}

impl Bounds {
    /// # Errors
    /// [`Full`]
    pub(super) fn place(&self, rights: &Rights) -> Result<Place, Full> {
        let foreigner = rights.foreigner();
        let mut taken = self.0.borrow_mut();
        if taken.connections >= CONNECTIONS {
            return Err(Full::Connections);
        }
        let mut turn = None;
        if let Some(uid) = foreigner {
            if taken.foreign >= FOREIGN {
                return Err(Full::Foreign);
            }
            let new = || OfUser { connections: 0, turn: Rc::new(Semaphore::new(1)) };
            let user = taken.of_users.entry(uid).or_insert_with(new);
            if user.connections >= OF_A_USER {
                return Err(Full::OfUser(uid));
            }
            user.connections += 1;
            turn = Some(Rc::clone(&user.turn));
            taken.foreign += 1;
        }
        taken.connections += 1;
        Ok(Place { bounds: self.clone(), foreigner, turn })
    }
}

impl Place {
    /// Who takes turns; `None`: has all rights, and needn't.
    pub(super) fn turn(&self) -> Option<&Semaphore> {
        self.turn.as_deref()
    }

    /// `None`: too much waits to be read already.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held> {
        let mut taken = self.bounds.0.borrow_mut();
        let unread = taken.unread + bytes;
        if unread > UNREAD {
            return None;
        }
        taken.unread = unread;
        Some(Held { bounds: self.bounds.clone(), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.bounds.0.borrow_mut();
        taken.connections -= 1;
        let Some(uid) = self.foreigner else { return };
        taken.foreign -= 1;
        if let Some(user) = taken.of_users.get_mut(&uid) {
            user.connections -= 1;
            if user.connections == 0 {
                taken.of_users.remove(&uid);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bounds.0.borrow_mut().unread -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Peer;
    use super::*;
    use hatchery_protocol::link::Access;

    fn rights(uid: u32) -> Rights {
        Rights::of(&Peer { uid, groups: vec![uid] }, 600, &Access::default())
    }

    #[test]
    fn nobody_crowds_out_whoever_may_say_everything() {
        let bounds = Bounds::default();
        let (one, root) = (rights(7), rights(0));
        let mut places: Vec<Place> = (0..OF_A_USER).map(|_| bounds.place(&one).unwrap()).collect();
        assert_eq!(bounds.place(&one).unwrap_err(), Full::OfUser(7));
        places.pop();
        places.push(bounds.place(&one).unwrap());
        for uid in 1_000..1_000 + FOREIGN - OF_A_USER {
            places.push(bounds.place(&rights(uid as u32)).unwrap());
        }
        assert_eq!(bounds.place(&rights(9)).unwrap_err(), Full::Foreign);
        places.extend((0..CONNECTIONS - FOREIGN).map(|_| bounds.place(&root).unwrap()));
        assert_eq!(bounds.place(&root).unwrap_err(), Full::Connections);
        drop(places);
        assert_eq!(bounds.0.borrow().of_users.len(), 0);
        bounds.place(&rights(9)).unwrap();
    }

    #[test]
    fn answers_that_nobody_reads_are_bounded() {
        let bounds = Bounds::default();
        let place = bounds.place(&rights(0)).unwrap();
        let held = place.hold(UNREAD - 1).unwrap();
        assert!(place.hold(2).is_none());
        place.hold(1).unwrap();
        drop(held);
        place.hold(UNREAD).unwrap();
    }
}
