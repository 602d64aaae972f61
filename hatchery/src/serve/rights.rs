//! As whom the web server runs, and the applications.

use hatchery_pool_client::PoolConfig;
use hatchery_pool_server::privileges::{DropError, Ids, become_user};
use nix::unistd::{Uid, User};

/// What is left of the rights that the web server was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Those of an ordinary user: there was nothing to give up.
    Ordinary,
    /// It was root, and is this user now, as the pool's core is.
    Dropped(Ids),
    /// It is root, and so is the pool.
    Root,
}

impl Rights {
    /// Gives up what isn't needed any more once sockets and logs are open and the pool has started. `pool_user` is
    /// the pool's own decision.
    ///
    /// # Errors
    /// [`DropError`]; it must not go on then.
    pub(crate) fn settle(pool_user: Option<(u32, u32)>) -> Result<Self, DropError> {
        match pool_user {
            _ if !rustix::process::geteuid().is_root() => Ok(Self::Ordinary),
            None => Ok(Self::Root),
            Some((uid, gid)) => {
                let user = Ids { uid, gid };
                become_user(user)?;
                Ok(Self::Dropped(user))
            }
        }
    }

    /// Why a pool that is gone can't be started again; `None`: it can be.
    pub(crate) fn no_further_pool(self) -> Option<String> {
        match self {
            Self::Ordinary | Self::Root => None,
            Self::Dropped(user) => Some(format!(
                "the pool is gone, and the web server, as {} by now, may not start another; whatever manages \
                 services here has to start hatchery again (systemd: Restart=on-failure)",
                shown(user)
            )),
        }
    }

    /// One line for who starts it.
    pub(crate) fn said(self, config: &PoolConfig) -> String {
        let apps = match (config.defaults.lower_privilege, &config.defaults.user) {
            (Some(false), _) => "applications as root, as lower_privilege = false says".to_owned(),
            (_, Some(user)) => format!("applications as {user}, unless an [[app]] says otherwise"),
            (_, None) => format!(
                "each application as the owner of its start file, or as {} if that is root or nobody known",
                config.lowest_user
            ),
        };
        match self {
            Self::Ordinary => "all applications run as the user who started this".to_owned(),
            Self::Dropped(user) => format!("web server and pool run as {}, {apps}", shown(user)),
            Self::Root => {
                "web server, pool and applications run as root; start it as another user for others' code".to_owned()
            }
        }
    }
}

/// By name, if there is one, and number.
fn shown(user: Ids) -> String {
    match User::from_uid(Uid::from_raw(user.uid)) {
        Ok(Some(known)) => format!("{} (user {})", known.name, user.uid),
        _ => format!("user {} (which has no name)", user.uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_pool_client::AppOptions;

    const NOBODY: Rights = Rights::Dropped(Ids { uid: 61_500, gid: 61_500 });

    #[test]
    fn the_line_says_whom_applications_run_as() {
        let config = |defaults| PoolConfig { defaults, ..PoolConfig::default() };
        let line = NOBODY.said(&config(AppOptions::default()));
        assert!(line.contains("as user 61500") && line.contains("or as nobody if"), "{line}");
        let line = NOBODY.said(&config(AppOptions { user: Some("web".into()), ..AppOptions::default() }));
        assert!(line.contains("applications as web"), "{line}");
        let line = NOBODY.said(&config(AppOptions { lower_privilege: Some(false), ..AppOptions::default() }));
        assert!(line.contains("applications as root"), "{line}");
    }

    #[test]
    fn a_user_is_shown_by_name_and_number() {
        assert_eq!(shown(Ids { uid: 0, gid: 0 }), "root (user 0)");
        assert_eq!(shown(Ids { uid: 61_500, gid: 1 }), "user 61500 (which has no name)");
    }

    #[test]
    fn a_pool_is_started_again_unless_the_rights_for_that_are_gone() {
        assert_eq!(Rights::Ordinary.no_further_pool(), None);
        assert!(NOBODY.no_further_pool().unwrap().contains("start hatchery again"));
    }
}
