//! Whom core and front end of a privileged pool become: a user who is named, or one that nobody is.

use super::errand;
use crate::privileges::{Ids, become_user, privileged};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The user that is taken if there is one and none is named.
const USUAL: &str = "hatchery";
/// Ids that systemd sets apart for services without an entry in the user database.
const UNUSED: RangeInclusive<u32> = 61184..=65519;

/// What the choice depends on.
pub(super) struct Wish<'a> {
    /// `--pool-user`
    pub(super) named: Option<&'a str>,
    /// The pool's id: two pools begin to look at different places.
    pub(super) pool: &'a str,
    /// Owners of other pools' folders, whose cores may be just starting.
    pub(super) taken: &'a [u32],
    /// The folders that the pool writes to. What an earlier pool wrote there belongs to a user of its own, who is
    /// chosen again if still nobody else is it.
    pub(super) written: [Option<&'a Path>; 2],
}

/// `None`: the pool is not privileged and stays who it is.
///
/// # Errors
/// One sentence: the named user is none that it can be.
pub(super) fn choose(wish: &Wish) -> Result<Option<Ids>, String> {
    if !privileged() && wish.named.is_none() {
        return Ok(None);
    }
    errand::run(|| look_up(wish)).map_err(|error| format!("the pool user could not be looked up: {error}"))?
}

/// In a child.
fn look_up(wish: &Wish) -> Result<Option<Ids>, String> {
    if !privileged() {
        return wish.named.map_or(Ok(()), stay).map(|()| None);
    }
    let user = match wish.named {
        Some(name) => named(name)?,
        None => match by_name(USUAL)? {
            Some(user) => user,
            None => nobody_is(wish)?,
        },
    };
    if user.uid == 0 {
        let name = wish.named.unwrap_or(USUAL);
        return Err(format!("the pool user {name} is root: name another with --pool-user"));
    }
    // Tried here, where it is the start's error and not the core's.
    become_user(user).map_err(|error| format!("the pool {error}"))?;
    Ok(Some(user))
}

/// Whether the named user is who this process is anyway.
fn stay(name: &str) -> Result<(), String> {
    let own = nix::unistd::geteuid().as_raw();
    if name.parse() == Ok(own) || named(name)?.uid == own {
        return Ok(());
    }
    Err(format!(
        "the pool user {name} is not who starts the pool (user {own}), and only root can become another: start it as \
         root or as {name}, or leave --pool-user out"
    ))
}

/// A user's name, else a user's number.
fn named(name: &str) -> Result<Ids, String> {
    if let Some(user) = by_name(name)? {
        return Ok(user);
    }
    // The highest number means "as it is" to the kernel.
    let Some(id) = name.parse().ok().filter(|id| *id != u32::MAX) else {
        return Err(format!(
            "the pool user {name} is not known here: create it (`useradd --system {name}`), or name another with --pool-user"
        ));
    };
    if let Some(user) = entry(User::from_uid(Uid::from_raw(id)))? {
        return Ok(user.into());
    }
    match entry(Group::from_gid(Gid::from_raw(id)))? {
        None => Ok(Ids { uid: id, gid: id }),
        Some(group) => Err(format!(
            "the pool user {id} has no entry in the user database, and group {id} is {}: name a user that has one",
            group.name
        )),
    }
}

fn by_name(name: &str) -> Result<Option<Ids>, String> {
    Ok(entry(User::from_name(name))?.map(Ids::from))
}

impl From<User> for Ids {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// C libraries also say so, rather than nothing, of what is not there.
fn entry<T>(found: Result<Option<T>, Errno>) -> Result<Option<T>, String> {
    match found {
        Ok(found) => Ok(found),
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        Err(errno) => Err(format!("the user database can't be read: {errno}")),
    }
}

/// An id without an entry for a user or a group, without a process, and without another pool's folder.
fn nobody_is(wish: &Wish) -> Result<Ids, String> {
    let mut used = ids_of_processes();
    used.extend(wish.taken);
    for id in candidates(wish) {
        if !used.contains(&id)
            && entry(User::from_uid(Uid::from_raw(id)))?.is_none()
            && entry(Group::from_gid(Gid::from_raw(id)))?.is_none()
        {
            return Ok(Ids { uid: id, gid: id });
        }
    }
    Err(format!(
        "each of the user ids {} to {} is somebody's: name a user without rights of its own with --pool-user",
        UNUSED.start(),
        UNUSED.end()
    ))
}

/// First the owner of what was written earlier, then all from a place of this pool's on.
fn candidates(wish: &Wish) -> impl Iterator<Item = u32> {
    let owner = |folder: &Path| std::fs::symlink_metadata(folder).ok().map(|found| found.uid());
    let before: Vec<u32> = wish.written.into_iter().flatten().filter_map(owner).collect();
    let count = UNUSED.end() - UNUSED.start() + 1;
    let first = wish.pool.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % count;
    let all = (0..count).map(move |step| UNUSED.start() + (first + step) % count);
    before.into_iter().filter(|id| UNUSED.contains(id)).chain(all)
}

/// Users and groups of everything that runs.
fn ids_of_processes() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        // The folder's owner would be root where a process can't be traced.
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .flat_map(|status| ids(&status))
        .collect()
}

fn ids(status: &str) -> Vec<u32> {
    let named = |line: &&str| ["Uid:", "Gid:", "Groups:"].iter().any(|name| line.starts_with(name));
    status.lines().filter(named).flat_map(str::split_ascii_whitespace).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(pool: &str) -> Wish<'_> {
        Wish { named: None, pool, taken: &[], written: [None; 2] }
    }

    #[test]
    fn two_pools_look_at_different_places_first() {
        let first = |pool| candidates(&wish(pool)).next().unwrap();
        assert_ne!(first("00000000000000aa"), first("00000000000000ab"));
        assert_eq!(first("00000000000000aa"), first("00000000000000aa"));
    }

    #[test]
    fn every_id_of_the_range_is_looked_at_once() {
        let all: Vec<u32> = candidates(&wish("5f3e")).collect();
        assert_eq!(all.iter().copied().collect::<BTreeSet<u32>>(), UNUSED.collect());
        assert_eq!(all.len(), UNUSED.count());
    }

    #[test]
    fn an_id_that_another_pool_has_is_passed_over() {
        let pool = "5f3e";
        let first = nobody_is(&wish(pool)).unwrap();
        let next = nobody_is(&Wish { taken: &[first.uid], ..wish(pool) }).unwrap();
        assert_ne!(first, next);
        assert!(UNUSED.contains(&next.uid) && next.gid == next.uid);
        let full: Vec<u32> = UNUSED.collect();
        let error = nobody_is(&Wish { taken: &full, ..wish(pool) }).unwrap_err();
        assert!(error.contains("61184 to 65519") && error.contains("--pool-user"), "{error}");
    }

    #[test]
    fn users_and_groups_of_a_process_are_read() {
        let status = "Name:\tcat\nUid:\t1\t2\t2\t2\nGid:\t3\t3\t3\t3\nFDSize:\t64\nGroups:\t4 5 \nThreads:\t9\n";
        let found: BTreeSet<u32> = ids(status).into_iter().collect();
        assert_eq!(found, BTreeSet::from([1, 2, 3, 4, 5]));
        assert!(ids_of_processes().contains(&nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn names_come_before_numbers_and_what_is_neither_is_named() {
        let daemon = named("daemon").unwrap();
        assert_eq!(named(&daemon.uid.to_string()).unwrap(), daemon);
        assert_eq!(named("61999").unwrap(), Ids { uid: 61999, gid: 61999 });
        for name in ["no-such-user", "-1", "4294967295", ""] {
            let error = named(name).unwrap_err();
            assert!(error.contains(&format!("the pool user {name} is not known")), "{error}");
        }
    }
}
