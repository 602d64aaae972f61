//! What lies beside an app's root: which versions there are, and which of them is marked as new.

use super::hands::look;
use hatchery_protocol::link::AppNumber;
use rustix::fs::{FileType, Stat};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The marker in a folder.
pub(super) const MARKER: &str = ".hatchery-deploy";
/// By this a version says itself that it is complete; it is taken away once the version is kept, so that no copy of
/// it says so too early.
pub(super) const COMPLETE: &str = ".complete";

/// A place for a version of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    /// `NAME`, the app itself.
    Name,
    /// `NAME.update`
    Update,
    /// `NAME.deploying`
    Deploying,
    /// `NAME.backup`
    Backup,
    /// `NAME.failed`
    Failed,
    /// `.NAME.hatchery-gap`: for a moment, where the file system can't exchange two versions at once.
    Gap,
}

impl Spot {
    pub(super) const ALL: [Self; 6] =
        [Self::Name, Self::Update, Self::Deploying, Self::Backup, Self::Failed, Self::Gap];
}

/// The folder that an app's root is in, and the root's name there.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) parent: PathBuf,
    name: OsString,
}

impl Names {
    /// `None`: it is no path of something that has a name.
    pub(super) fn of(root: &[u8]) -> Option<Self> {
        let root = Path::new(OsStr::from_bytes(root));
        let parent = root.parent().filter(|_| root.is_absolute())?;
        Some(Self { parent: parent.into(), name: root.file_name()?.into() })
    }

    fn with(&self, before: &str, after: &str) -> OsString {
        OsString::from_vec([before.as_bytes(), self.name.as_bytes(), after.as_bytes()].concat())
    }

    pub(super) fn spot(&self, spot: Spot) -> OsString {
        match spot {
            Spot::Name => self.name.clone(),
            Spot::Update => self.with("", ".update"),
            Spot::Deploying => self.with("", ".deploying"),
            Spot::Backup => self.with("", ".backup"),
            Spot::Failed => self.with("", ".failed"),
            Spot::Gap => self.with(".", ".hatchery-gap"),
        }
    }

    /// The marker of a version that can't hold one.
    pub(super) fn note(&self) -> OsString {
        self.with("", ".deploying-id")
    }

    /// Whether a marker lies in one of the versions, as far as that can be seen.
    pub(super) fn marked(&self, parent: &OwnedFd, scene: &Scene) -> bool {
        let folders = Spot::ALL.into_iter().filter(|spot| scene.at(*spot).is_some_and(Entry::is_folder));
        folders.into_iter().any(|spot| {
            // `NAME` was a folder a moment ago; should it be a link by now, its marker is looked for in vain as the
            // user that it belongs to.
            let marker = Path::new(&self.spot(spot)).join(MARKER);
            matches!(look(parent, marker.as_os_str()), Ok(Some(_)))
        })
    }

    /// What every name of something put aside begins with.
    pub(super) fn aside(&self) -> OsString {
        self.with(".", ".hatchery-gone-")
    }

    pub(super) fn path(&self, spot: Spot) -> PathBuf {
        self.parent.join(self.spot(spot))
    }
}

/// Where a version came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Update,
    Backup,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is tried, or about to be.
    Trying,
    /// It stays.
    Keep,
    /// It goes.
    Undo,
}

/// What a marker says: that the version it is in, or names, is the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Fresh with every exchange; under it, its trial is announced.
    pub(super) id: String,
    /// The pool, and the app in it, for which it is tried.
    pub(super) pool: String,
    pub(super) app: AppNumber,
    pub(super) origin: Origin,
    pub(super) stage: Stage,
}

const FIRST_WORD: &str = "hatchery-deploy-1";

impl Mark {
    /// As it is written. `place`: device and inode of the version, where the marker does not lie in it.
    pub(super) fn text(&self, place: (u64, u64)) -> String {
        let origin = match self.origin {
            Origin::Update => "update",
            Origin::Backup => "backup",
        };
        let stage = match self.stage {
            Stage::Trying => "trying",
            Stage::Keep => "keep",
            Stage::Undo => "undo",
        };
        let (device, inode) = place;
        let Self { id, pool, app, .. } = self;
        format!("{FIRST_WORD} {id} {pool} {} {origin} {stage} {device} {inode}\n", app.0)
    }

    /// Reads one, with its place. `None`: it is none of ours.
    pub(super) fn parse(text: &str) -> Option<(Self, (u64, u64))> {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let [FIRST_WORD, id, pool, app, origin, stage, device, inode] = words[..] else { return None };
        let origin = match origin {
            "update" => Origin::Update,
            "backup" => Origin::Backup,
            _ => return None,
        };
        let stage = match stage {
            "trying" => Stage::Trying,
            "keep" => Stage::Keep,
            "undo" => Stage::Undo,
            _ => return None,
        };
        let app = AppNumber(app.parse().ok()?);
        let mark = Self { id: id.into(), pool: pool.into(), app, origin, stage };
        Some((mark, (device.parse().ok()?, inode.parse().ok()?)))
    }
}

/// A version at a spot, itself and not what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) place: (u64, u64),
    pub(super) mark: Option<Mark>,
}

impl Entry {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            place: (stat.st_dev, stat.st_ino),
            mark: None,
        }
    }

    /// A folder of the user `own` holds its marker; that of all else lies beside it, since it can't be written.
    pub(super) fn holds_marker(&self, own: u32) -> bool {
        self.is_folder() && self.uid == own
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(super) fn is_version(&self) -> bool {
        matches!(self.kind, FileType::Directory | FileType::RegularFile)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) entries: [Option<Entry>; 6],
    /// A marker that lies beside the versions, and is of none of them.
    pub(super) stray: Option<Mark>,
}

impl Scene {
    pub(super) fn at(&self, spot: Spot) -> Option<&Entry> {
        self.entries[spot as usize].as_ref()
    }

    pub(super) fn mark(&self, spot: Spot) -> Option<&Mark> {
        self.at(spot)?.mark.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let mark = Mark {
            id: "0123".into(),
            pool: "p1".into(),
            app: AppNumber(1 << 32 | 7),
            origin: Origin::Backup,
            stage: Stage::Undo,
        };
        assert_eq!(Mark::parse(&mark.text((3, 4))), Some((mark, (3, 4))));
        for text in ["", "x", "hatchery-deploy-1 a p 1 update trying 1", "hatchery-deploy-1 a p x update trying 1 2"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_stand_beside_the_root_as_it_is_named() {
        let names = Names::of(b"/srv/shop").unwrap();
        assert_eq!(names.path(Spot::Update), Path::new("/srv/shop.update"));
        assert_eq!(names.path(Spot::Gap), Path::new("/srv/.shop.hatchery-gap"));
        assert_eq!(names.note(), "shop.deploying-id");
        for root in [&b"/"[..], b"shop", b"/srv/.."] {
            assert!(Names::of(root).is_none(), "{root:?}");
        }
    }
}
