//! Who may use the admin socket, by number. Names are looked up here, once: the core must not wait for a user database.

use hatchery_protocol::config::AdminAccess;
use hatchery_protocol::link::Access;
use nix::errno::Errno;
use nix::unistd::{Gid, Group};

/// # Errors
/// A group that does not exist, in one sentence.
pub(super) fn resolve(said: &AdminAccess) -> Result<Access, String> {
    Ok(Access {
        operator: rustix::process::geteuid().as_raw(),
        group: said.group.as_deref().map(|name| group("admin_group", name)).transpose()?,
        readers: said.readers.as_deref().map(|name| group("admin_readers", name)).transpose()?,
        owners: said.owners,
    })
}

fn group(key: &str, name: &str) -> Result<u32, String> {
    let unknown =
        || format!("{key}: there is no group {name} here: create it (`groupadd --system {name}`), or name another");
    let found = match name.parse::<u32>() {
        Ok(id) => Group::from_gid(Gid::from_raw(id)),
        Err(_) => Group::from_name(name),
    };
    match found {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        // A number needs no entry.
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => {
            name.parse().map_err(|_| unknown())
        }
        Err(errno) => Err(format!("{key}: the group {name} can't be looked up: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_number_and_a_strange_one_refused() {
        let said = |group: &str| AdminAccess { group: Some(group.to_owned()), ..AdminAccess::default() };
        assert_eq!(resolve(&said("root")).unwrap().group, Some(0));
        assert_eq!(resolve(&said("61999")).unwrap().group, Some(61999));
        let refused = resolve(&said("no-such-group")).unwrap_err();
        assert!(refused.starts_with("admin_group: there is no group no-such-group here"), "{refused}");
    }
}
