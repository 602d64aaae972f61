//! The user database. Asked in errands only: a look-up may go over the network, and hang there.

use hatchery_protocol::link::Identity;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// The database could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the user database can't be asked about {about}: {error}")]
pub(crate) struct DatabaseError {
    about: String,
    error: Errno,
}

/// Says "not found" in each of the ways that a database does.
fn found<T>(answer: nix::Result<Option<T>>, about: &str) -> Result<Option<T>, DatabaseError> {
    match answer {
        Ok(found) => Ok(found),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(DatabaseError { about: about.to_owned(), error }),
    }
}

/// A user by name or number. `None`: the database knows nobody of it.
pub(crate) fn user(word: &str) -> Result<Option<User>, DatabaseError> {
    match (found(User::from_name(word), word)?, word.parse()) {
        (None, Ok(uid)) => user_of(uid),
        (user, _) => Ok(user),
    }
}

pub(crate) fn user_of(uid: u32) -> Result<Option<User>, DatabaseError> {
    found(User::from_uid(Uid::from_raw(uid)), &format!("user {uid}"))
}

/// A group by name or number. `None`: the database knows none of it.
pub(crate) fn group(word: &str) -> Result<Option<u32>, DatabaseError> {
    let group = match (found(Group::from_name(word), word)?, word.parse()) {
        (None, Ok(gid)) => found(Group::from_gid(Gid::from_raw(gid)), word)?,
        (group, _) => group,
    };
    Ok(group.map(|group| group.gid.as_raw()))
}

/// What people call this user.
pub(crate) fn name_of(uid: u32) -> String {
    match user_of(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

/// What a process of `user` needs to be: with the supplementary groups that the database gives it.
pub(crate) fn identity(user: User, group: Option<u32>) -> Result<Identity, DatabaseError> {
    let failed = |error| DatabaseError { about: format!("the groups of {}", user.name), error };
    let gid = group.map_or(user.gid, Gid::from_raw);
    let name = CString::new(user.name.as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let groups = getgrouplist(&name, gid).map_err(failed)?;
    Ok(Identity {
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
        home: user.dir.into_os_string().into_vec(),
        shell: user.shell.into_os_string().into_vec(),
        name: user.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = user("root").unwrap().unwrap();
        assert_eq!(root.uid.as_raw(), 0);
        assert_eq!(user("0").unwrap().unwrap().name, "root");
        assert!(user("nobody-of-that-name").unwrap().is_none());
        assert!(user("").unwrap().is_none());
        assert_eq!(name_of(0), "root");
    }

    #[test]
    fn a_group_is_found_by_name_and_by_number() {
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("0").unwrap(), Some(0));
        assert_eq!(group("no-group-of-that-name").unwrap(), None);
    }

    #[test]
    fn an_identity_has_its_group_among_its_groups() {
        let identity = identity(user("root").unwrap().unwrap(), None).unwrap();
        assert_eq!((identity.uid, identity.gid), (0, 0));
        assert!(identity.groups.contains(&0));
        assert!(identity.home.starts_with(b"/") && identity.shell.starts_with(b"/"));
    }
}
