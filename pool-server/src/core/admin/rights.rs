//! Who may say what: one table, asked once before a command is obeyed.

use super::peer::Peer;
use hatchery_protocol::link::Access;

/// What a command does, as far as rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Says nothing about the pool.
    Nothing,
    /// Looks at applications.
    Look,
    /// Reads what an application prints.
    Logs,
    /// Looks at the whole pool.
    Read,
    /// Restarts an application.
    Restart,
    /// Changes anything else.
    Change,
}

/// Which applications a command may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Every,
    /// Those that run as this user.
    RunAs(u32),
}

/// What one connection may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// `None`: whoever asks for a connection of the operator's through the door.
    uid: Option<u32>,
    everything: bool,
    reads: bool,
    /// Whatever runs as it is its own.
    owns: bool,
    access: Access,
}

impl Rights {
    /// Of who started the pool.
    pub(super) fn of_the_front_end(access: &Access) -> Self {
        Self { uid: None, everything: true, reads: true, owns: false, access: access.clone() }
    }

    /// Of who connected to the socket. `own`: the user that the core runs as.
    pub(super) fn of(peer: &Peer, own: u32, access: &Access) -> Self {
        let is_in = |group: Option<u32>| group.is_some_and(|group| peer.groups.contains(&group));
        let everything = [0, own, access.operator].contains(&peer.uid) || is_in(access.group);
        Self {
            uid: Some(peer.uid),
            everything,
            reads: everything || is_in(access.readers),
            owns: access.owners,
            access: access.clone(),
        }
    }

    /// A user of whom there may be many, each with little to say.
    pub(super) fn foreigner(&self) -> Option<u32> {
        self.uid.filter(|_| !self.everything)
    }

    pub(super) fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// | | nothing | look, logs | read | restart | change |
    /// | --- | --- | --- | --- | --- | --- |
    /// | root, the pool's users, `admin_group` | yes | yes | yes | yes | yes |
    /// | `admin_readers` | yes | yes | yes | | |
    /// | whom an application runs as (`admin_owners`) | yes | of its own | | of its own | |
    /// | everybody else | yes | | | | |
    ///
    /// # Errors
    /// One sentence that says what would help.
    pub(super) fn may(&self, needs: Needs) -> Result<Scope, String> {
        let own = self.uid.filter(|_| self.owns).map(Scope::RunAs);
        match needs {
            Needs::Nothing => Ok(Scope::Every),
            _ if self.everything => Ok(Scope::Every),
            Needs::Look | Needs::Logs | Needs::Read if self.reads => Ok(Scope::Every),
            Needs::Look | Needs::Logs | Needs::Restart => own.ok_or_else(|| self.refusal()),
            Needs::Read | Needs::Change => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> String {
        let Access { operator, group, readers, .. } = self.access;
        let who = self.uid.map_or_else(|| "this connection".to_owned(), |uid| format!("user {uid}"));
        let may = match (self.reads, self.owns) {
            (true, false) => format!("{who} may look at everything (admin_readers), and change nothing"),
            (true, true) => format!(
                "{who} may look at everything (admin_readers) and restart the applications that run as it \
                 (admin_owners), and change nothing else"
            ),
            (false, true) => format!(
                "{who} may look at the applications that run as it, restart them and read what they print \
                 (admin_owners), and nothing else"
            ),
            (false, false) => format!("{who} has no rights here"),
        };
        let mut others = vec!["root".to_owned()];
        others.extend((operator != 0).then(|| format!("user {operator}")));
        others.extend(group.map(|group| format!("members of group {group} (admin_group)")));
        let look = readers.filter(|_| !self.reads);
        let look = look.map(|readers| format!("; looking: also members of group {readers} (admin_readers)"));
        format!("not allowed: {may}; everything: {}{}", others.join(", "), look.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u32 = 2000;
    const READERS: u32 = 3000;

    fn access() -> Access {
        Access { operator: 500, group: Some(GROUP), readers: Some(READERS), owners: true }
    }

    fn rights(uid: u32, groups: &[u32], access: &Access) -> Rights {
        Rights::of(&Peer { uid, groups: groups.to_vec() }, 600, access)
    }

    /// In the order of the table's columns: `e`verything, its `o`wn, or not.
    fn row(rights: &Rights) -> String {
        let needs = [Needs::Nothing, Needs::Look, Needs::Logs, Needs::Read, Needs::Restart, Needs::Change];
        let said = needs.map(|needs| match rights.may(needs) {
            Ok(Scope::Every) => 'e',
            Ok(Scope::RunAs(uid)) if Some(uid) == rights.uid => 'o',
            Ok(Scope::RunAs(_)) => '?',
            Err(_) => '-',
        });
        said.into_iter().collect()
    }

    #[test]
    fn the_table_of_rights() {
        let with_owners = access();
        let without = Access { owners: false, ..access() };
        let closed = Access { operator: 500, ..Access::default() };
        for (uid, groups, access, wanted) in [
            (0, &[0][..], &closed, "eeeeee"),
            (500, &[500], &closed, "eeeeee"),
            (600, &[600], &closed, "eeeeee"),
            (700, &[700], &closed, "e-----"),
            (700, &[700, GROUP], &closed, "e-----"),
            (700, &[GROUP], &without, "eeeeee"),
            (700, &[700, GROUP], &without, "eeeeee"),
            (700, &[700, READERS], &without, "eeee--"),
            (700, &[700], &without, "e-----"),
            (700, &[700], &with_owners, "eoo-o-"),
            (700, &[700, READERS], &with_owners, "eeeeo-"),
            (700, &[700, GROUP], &with_owners, "eeeeee"),
            // A user's number is no group's.
            (GROUP, &[700], &without, "e-----"),
        ] {
            assert_eq!(row(&rights(uid, groups, access)), wanted, "{uid} {groups:?} {access:?}");
        }
        assert_eq!(row(&Rights::of_the_front_end(&closed)), "eeeeee");
    }

    #[test]
    fn who_has_few_rights_is_a_foreigner_and_counted() {
        assert_eq!(rights(700, &[700], &access()).foreigner(), Some(700));
        assert_eq!(rights(700, &[GROUP], &access()).foreigner(), None);
        assert_eq!(Rights::of_the_front_end(&access()).foreigner(), None);
    }

    #[test]
    fn a_refusal_says_what_one_may_and_who_may_more() {
        let refused = |groups: &[u32], access: &Access| rights(700, groups, access).may(Needs::Change).unwrap_err();
        assert_eq!(
            refused(&[700], &access()),
            "not allowed: user 700 may look at the applications that run as it, restart them and read what they print \
             (admin_owners), and nothing else; everything: root, user 500, members of group 2000 (admin_group); \
             looking: also members of group 3000 (admin_readers)"
        );
        let without = Access { owners: false, group: None, operator: 0, ..access() };
        assert_eq!(
            refused(&[READERS], &without),
            "not allowed: user 700 may look at everything (admin_readers), and change nothing; everything: root"
        );
    }
}
