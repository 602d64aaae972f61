//! Whom an app runs as, if the pool is privileged: from what the operator said and who owns what is at its root.
//! Runs in an errand, before anything below the root is touched.

use crate::users::{self, DatabaseError};
use hatchery_protocol::link::Identity;
use hatchery_protocol::options::{AppOptions, Start};
use nix::unistd::User;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the operator said of all apps, and who the pool is.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// This process may become any user.
    pub(crate) privileged: bool,
    pub(crate) lowest_user: String,
    pub(crate) min_uid: u32,
    /// Users that no app may have.
    pub(crate) reserved: Vec<u32>,
}

/// Whom an app runs as, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As this process does.
    AsThePool,
    /// Somebody who was named, or the lowest user of the demo app.
    Said(Identity),
    /// Somebody for whom what is at the root belongs to `owner`; what is read there must do so too.
    Owner { identity: Identity, owner: u32 },
    /// Nothing could be seen at the root: as this user it is told what is there.
    Unseen(Identity),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("{} is to run as {user}, and the pool, which runs as {own}, is not root", app.display())]
    NotRoot { app: PathBuf, user: String, own: String },
    #[error("{} is to run in the group {group}, and the pool is not root", app.display())]
    NotOurGroup { app: PathBuf, group: String },
    #[error("there is nobody to run {} as: lowest_user ({name}) {}", app.display(), if *.root { "is root" } else { "does not exist" })]
    NoLowestUser { app: PathBuf, name: String, root: bool },
    #[error("{} would run as {user}, who is the pool itself or its web server", app.display())]
    Reserved { app: PathBuf, user: String },
    #[error("{} would run as {user}, whose id {uid} is below min_uid ({min_uid})", app.display())]
    Low { app: PathBuf, user: String, uid: u32, min_uid: u32 },
    #[error("{} belongs to {link}, the folder that it leads to to {folder}: chown one of them", app.display())]
    Link { app: PathBuf, link: String, folder: String },
    #[error("{0}")]
    Database(#[from] DatabaseError),
}

impl IdentityError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::NotRoot { .. } => "Remove `user`, or start the pool as root.".into(),
            Self::NotOurGroup { .. } => "Remove `group`, or start the pool as root.".into(),
            Self::NoLowestUser { .. } => {
                "Name a user without rights in pool.toml (`lowest_user = \"nobody\"`), give the app to a user of its \
                 own (`chown`), or name one for it (`user = ...`)."
                    .into()
            }
            Self::Reserved { app, .. } => format!(
                "Give the app to a user of its own (`chown -R USER {}`), or name one for it in pool.toml (`user = ...`).",
                app.display()
            ),
            Self::Low { user, .. } => format!(
                "Give the app to another user (`chown`), name one for it in pool.toml (`user = ...`), or allow this \
                 one there (`min_uid`, or `lowest_user = \"{user}\"`)."
            ),
            Self::Link { app, folder, .. } => format!(
                "Correct the link's owner (`chown -h {folder} {}`) or the folder's, or name a user for the app in \
                 pool.toml (`user = ...`).",
                app.display()
            ),
            Self::Database(_) => "See whether the user database (passwd, sssd, ldap) is well (`getent passwd`).".into(),
        }
    }
}

/// Whom the app at `root` runs as.
pub(crate) fn choose(root: &Path, settings: &AppOptions, rules: &Rules) -> Result<Choice, IdentityError> {
    let app = App { root, settings, rules };
    if !rules.privileged {
        return app.as_ourselves();
    }
    if settings.lower_privilege == Some(false) {
        return Ok(Choice::AsThePool);
    }
    if let Some(name) = &settings.user {
        return app.named(name).map(Choice::Said);
    }
    if matches!(settings.start, Some(Start::DemoApp)) {
        return app.identity(app.lowest()?).map(Choice::Said);
    }
    match app.owner()? {
        None => app.identity(app.lowest()?).map(Choice::Unseen),
        Some(owner) => Ok(Choice::Owner { identity: app.of_owner(owner)?, owner }),
    }
}

struct App<'a> {
    root: &'a Path,
    settings: &'a AppOptions,
    rules: &'a Rules,
}

impl App<'_> {
    /// Without privileges there is one user for all apps; naming it changes nothing.
    fn as_ourselves(&self) -> Result<Choice, IdentityError> {
        let own = rustix::process::geteuid().as_raw();
        if let Some(name) = &self.settings.user
            && users::user(name)?.is_none_or(|user| user.uid.as_raw() != own)
        {
            let (user, own) = (name.clone(), users::name_of(own));
            return Err(IdentityError::NotRoot { app: self.root.into(), user, own });
        }
        if let Some(name) = &self.settings.group
            && users::group(name)? != Some(rustix::process::getegid().as_raw())
        {
            return Err(IdentityError::NotOurGroup { app: self.root.into(), group: name.clone() });
        }
        Ok(Choice::AsThePool)
    }

    fn named(&self, name: &str) -> Result<Identity, IdentityError> {
        match users::user(name)? {
            Some(user) if !user.uid.is_root() => self.identity(user),
            // Root is not asked for by its name, but by `lower_privilege = false`.
            Some(_) | None => self.identity(self.lowest()?),
        }
    }

    fn of_owner(&self, owner: u32) -> Result<Identity, IdentityError> {
        match users::user_of(owner)? {
            Some(user) if owner != 0 => self.identity(user),
            Some(_) | None => self.identity(self.lowest()?),
        }
    }

    fn lowest(&self) -> Result<User, IdentityError> {
        let no =
            |root| IdentityError::NoLowestUser { app: self.root.into(), name: self.rules.lowest_user.clone(), root };
        match users::user(&self.rules.lowest_user)? {
            Some(user) if user.uid.is_root() => Err(no(true)),
            Some(user) => Ok(user),
            None => Err(no(false)),
        }
    }

    /// `user` as a process, if an app may run as it.
    fn identity(&self, user: User) -> Result<Identity, IdentityError> {
        let (uid, min_uid) = (user.uid.as_raw(), self.rules.min_uid);
        if self.rules.reserved.contains(&uid) {
            return Err(IdentityError::Reserved { app: self.root.into(), user: user.name });
        }
        if uid < min_uid && self.lowest().map_or(true, |lowest| lowest.uid != user.uid) {
            return Err(IdentityError::Low { app: self.root.into(), user: user.name, uid, min_uid });
        }
        let group = match &self.settings.group {
            None => None,
            Some(name) => match users::group(name)? {
                Some(0) | None => Some(self.lowest()?.gid.as_raw()),
                given => given,
            },
        };
        Ok(users::identity(user, group)?)
    }

    /// Who owns what is at the root: the folder, or the file that is started, itself and not what it leads to.
    /// `None`: it can't be seen.
    fn owner(&self) -> Result<Option<u32>, IdentityError> {
        let (Ok(itself), Ok(target)) = (self.root.symlink_metadata(), self.root.metadata()) else { return Ok(None) };
        if !target.is_dir() {
            return Ok(Some(itself.uid()));
        }
        // Where root's links lead is root's to say.
        if itself.uid() != target.uid() && itself.uid() != 0 {
            return Err(IdentityError::Link {
                app: self.root.into(),
                link: users::name_of(itself.uid()),
                folder: users::name_of(target.uid()),
            });
        }
        Ok(Some(target.uid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { privileged: true, lowest_user: "nobody".into(), min_uid: 100, reserved: Vec::new() }
    }

    fn named(user: &str) -> AppOptions {
        AppOptions { user: Some(user.into()), ..AppOptions::default() }
    }

    fn chosen(settings: &AppOptions, rules: &Rules) -> Result<Identity, String> {
        match choose(Path::new("/etc"), settings, rules) {
            Ok(Choice::Said(identity) | Choice::Owner { identity, .. } | Choice::Unseen(identity)) => Ok(identity),
            Ok(Choice::AsThePool) => panic!("as the pool"),
            Err(error) => {
                assert!(!error.remedy().is_empty());
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn a_named_user_is_taken_with_its_own_group_unless_one_is_given() {
        // B91
        let mut rules = rules();
        rules.min_uid = 1;
        let daemon = users::user("daemon").unwrap().unwrap();
        for name in ["daemon".to_owned(), daemon.uid.to_string()] {
            let identity = chosen(&named(&name), &rules).unwrap();
            assert_eq!((identity.name.as_str(), identity.gid), ("daemon", daemon.gid.as_raw()));
        }
        // B93
        let group = users::group("sys").unwrap();
        let given = AppOptions { group: Some("sys".into()), ..named("daemon") };
        let identity = chosen(&given, &rules).unwrap();
        assert_eq!((identity.uid, Some(identity.gid)), (daemon.uid.as_raw(), group));
        assert!(identity.groups.contains(&identity.gid));
    }

    #[test]
    fn root_and_unknown_names_are_the_lowest_user() {
        // B91, B93
        let nobody = users::user("nobody").unwrap().unwrap();
        for name in ["root", "0", "no-such-user", "4000000000"] {
            assert_eq!(chosen(&named(name), &rules()).unwrap().uid, nobody.uid.as_raw(), "{name}");
        }
        for group in ["root", "0", "no-such-group"] {
            let settings = AppOptions { group: Some(group.into()), ..named("nobody") };
            assert_eq!(chosen(&settings, &rules()).unwrap().gid, nobody.gid.as_raw(), "{group}");
        }
    }

    #[test]
    fn what_belongs_to_root_runs_as_the_lowest_user() {
        // B92: /etc is root's.
        assert_eq!(chosen(&AppOptions::default(), &rules()).unwrap().name, "nobody");
    }

    #[test]
    fn without_a_lowest_user_nothing_runs() {
        // B94
        for (name, why) in [("no-such-user", "does not exist"), ("root", "is root"), ("0", "is root")] {
            let mut rules = rules();
            rules.lowest_user = name.into();
            let expected = format!("there is nobody to run /etc as: lowest_user ({name}) {why}");
            assert_eq!(chosen(&AppOptions::default(), &rules).unwrap_err(), expected);
            assert_eq!(chosen(&named("root"), &rules).unwrap_err(), expected);
        }
    }

    #[test]
    fn some_users_are_refused_by_name() {
        let mut rules = rules();
        let uid = users::user("daemon").unwrap().unwrap().uid.as_raw();
        assert_eq!(
            chosen(&named("daemon"), &rules).unwrap_err(),
            format!("/etc would run as daemon, whose id {uid} is below min_uid (100)")
        );
        // The lowest user may be as low as it is.
        rules.lowest_user = "daemon".into();
        assert_eq!(chosen(&named("daemon"), &rules).unwrap().uid, uid);
        rules.reserved = vec![uid];
        assert_eq!(
            chosen(&named("daemon"), &rules).unwrap_err(),
            "/etc would run as daemon, who is the pool itself or its web server"
        );
    }

    #[test]
    fn the_operator_can_keep_an_app_as_the_pool_is() {
        let settings = AppOptions { lower_privilege: Some(false), ..AppOptions::default() };
        assert_eq!(choose(Path::new("/etc"), &settings, &rules()).unwrap(), Choice::AsThePool);
    }

    #[test]
    fn the_demo_app_runs_as_the_lowest_user_whatever_is_at_its_root() {
        let settings = AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() };
        assert!(matches!(
            choose(Path::new("/nonexistent"), &settings, &rules()).unwrap(),
            Choice::Said(identity) if identity.name == "nobody"
        ));
    }

    #[test]
    fn without_privileges_only_our_own_user_can_be_named() {
        let rules = Rules { privileged: false, ..rules() };
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(
            choose(Path::new("/app"), &named(&users::name_of(own)), &rules).ok(),
            users::user_of(own).unwrap().map(|_| Choice::AsThePool)
        );
        let error = choose(Path::new("/app"), &named("no-such-user"), &rules).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("/app is to run as no-such-user, and the pool, which runs as {}, is not root", users::name_of(own))
        );
        let settings = AppOptions { group: Some("no-such-group".into()), ..AppOptions::default() };
        let error = choose(Path::new("/app"), &settings, &rules).unwrap_err();
        assert_eq!(error.to_string(), "/app is to run in the group no-such-group, and the pool is not root");
    }
}
