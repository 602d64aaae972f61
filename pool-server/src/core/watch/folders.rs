//! The folders of running apps, watched by a thread of its own: to add a watch means to walk a tree on disk, which the
//! core never does.
//!
//! Each folder is watched once, however many apps and names lead to it, since the kernel knows no others. Ignored
//! folders are not entered: the system's watches are few, and `node_modules` are many.

use super::ignore::Ignored;
use super::words::{Order, Reason, Seen, What};
use hatchery_pool::AppId;
use notify::event::{CreateKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use tokio::sync::mpsc as to_core;

/// Folders of one app that are watched at most.
const MOST_FOLDERS: usize = 10_000;
/// Events that may wait for the thread; beyond them it looks for itself what has changed.
const MOST_EVENTS: usize = 4_096;
/// What the thread has seen and the core hasn't taken yet; it waits then.
const MOST_SEEN: usize = 256;

#[derive(Debug)]
enum Message {
    Order(Order),
    Event(Event),
    /// Some events could not be told.
    Lost,
}

/// The thread. It ends when this is gone.
#[derive(Debug)]
pub(super) struct Folders {
    orders: mpsc::Sender<Message>,
}

impl Folders {
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start() -> io::Result<(Self, to_core::Receiver<Seen>)> {
        let (orders, messages) = mpsc::channel();
        let (seen, told) = to_core::channel(MOST_SEEN);
        let events = orders.clone();
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || Thread::new(Arc::new(Inbox::new(events)), seen).run(&messages))?;
        Ok((Self { orders }, told))
    }

    pub(super) fn order(&self, order: Order) {
        // Without the thread nothing is watched, which whoever receives from it has said.
        let _ = self.orders.send(Message::Order(order));
    }
}

/// What waits for the thread, bounded.
#[derive(Debug)]
struct Inbox {
    messages: mpsc::Sender<Message>,
    waiting: AtomicUsize,
    lost: AtomicBool,
}

impl Inbox {
    fn new(messages: mpsc::Sender<Message>) -> Self {
        Self { messages, waiting: AtomicUsize::new(0), lost: AtomicBool::new(false) }
    }

    /// On the thread that reads from the kernel.
    fn take(&self, event: notify::Result<Event>) {
        let message = match event {
            // Apps open their files all the time.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            // It is told as `From` and `To` as well.
            Ok(event) if matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::Both))) => return,
            Ok(event) if !event.need_rescan() => Message::Event(event),
            Ok(_) | Err(_) => Message::Lost,
        };
        let lost = matches!(message, Message::Lost) || self.waiting.load(Ordering::Relaxed) >= MOST_EVENTS;
        if !lost {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = self.messages.send(message);
        } else if !self.lost.swap(true, Ordering::Relaxed) {
            let _ = self.messages.send(Message::Lost);
        }
    }
}

/// Device and inode.
type Place = (u64, u64);

fn place(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

struct Followed {
    root: PathBuf,
    files: Option<Box<Ignored>>,
    round: u64,
    /// Which folder, or file, the root is.
    place: Option<Place>,
}

/// A folder that is watched.
struct Watched {
    place: Place,
    /// For whom, and what they call it.
    names: BTreeSet<(AppId, PathBuf)>,
}

struct Thread {
    inbox: Arc<Inbox>,
    seen: to_core::Sender<Seen>,
    watcher: Option<RecommendedWatcher>,
    apps: BTreeMap<AppId, Followed>,
    /// By the path that the watcher knows.
    watched: HashMap<PathBuf, Watched>,
    by_place: HashMap<Place, PathBuf>,
    /// What is to be told, once each.
    news: BTreeSet<Seen>,
}

impl Thread {
    fn new(inbox: Arc<Inbox>, seen: to_core::Sender<Seen>) -> Self {
        Self {
            inbox,
            seen,
            watcher: None,
            apps: BTreeMap::new(),
            watched: HashMap::new(),
            by_place: HashMap::new(),
            news: BTreeSet::new(),
        }
    }

    fn run(mut self, messages: &mpsc::Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            self.obey(message);
            while let Ok(message) = messages.try_recv() {
                self.obey(message);
            }
            for seen in std::mem::take(&mut self.news) {
                if self.seen.blocking_send(seen).is_err() {
                    return;
                }
            }
        }
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Order(Order::Follow { app, root, files, round }) => {
                self.apps.insert(app, Followed { root, files, round, place: None });
                let folders = self.follow(app);
                self.tell(app, What::Watched(folders));
            }
            Message::Order(Order::Leave { app }) => {
                self.apps.remove(&app);
                self.keep_names(app, &HashSet::new());
            }
            Message::Event(event) => {
                self.inbox.waiting.fetch_sub(1, Ordering::Relaxed);
                for path in &event.paths {
                    for (app, name) in self.named(path) {
                        self.judge(app, &name, event.kind);
                    }
                }
            }
            Message::Lost => {
                self.inbox.lost.store(false, Ordering::Relaxed);
                let apps: Vec<AppId> = self.apps.keys().copied().collect();
                for app in apps {
                    self.follow(app);
                    self.tell(app, What::Stirred);
                    if self.apps.get(&app).is_some_and(|followed| followed.files.is_some()) {
                        self.tell(app, What::Files);
                    }
                }
            }
        }
    }

    fn tell(&mut self, app: AppId, what: What) {
        if let Some(round) = self.apps.get(&app).map(|followed| followed.round) {
            self.news.insert(Seen { app, round, what });
        }
    }

    /// What apps call a path that the watcher tells of: something in a watched folder, or that folder itself.
    fn named(&self, path: &Path) -> Vec<(AppId, PathBuf)> {
        let itself = self.watched.get(path).into_iter().flat_map(|watched| watched.names.iter().cloned());
        let folder = path.parent().and_then(|folder| self.watched.get(folder)).zip(path.file_name());
        let inside = folder
            .into_iter()
            .flat_map(|(folder, name)| folder.names.iter().map(move |(app, called)| (*app, called.join(name))));
        let all: BTreeSet<(AppId, PathBuf)> = itself.chain(inside).collect();
        all.into_iter().collect()
    }

    // ── events ───────────────────────────────────────────────────────────────────────────────────

    fn judge(&mut self, app: AppId, path: &Path, kind: EventKind) {
        let Some(followed) = self.apps.get(&app) else { return };
        let root = followed.root.clone();
        let moved = is_about_a_name(kind);
        if path == root {
            self.judge_root(app, moved);
        } else if Some(path) == beside(&root, ".update").as_deref() || path == root.join("tmp/restart.txt") {
            self.tell(app, What::Stirred);
        } else if path == root.join("tmp") {
            if moved {
                self.follow(app);
                self.tell(app, What::Stirred);
            }
        } else if let Ok(relative) = path.strip_prefix(&root) {
            let folder = moved && path.symlink_metadata().is_ok_and(|found| found.is_dir());
            let gone_folder = moved && !folder && matches!(kind, EventKind::Remove(notify::event::RemoveKind::Folder));
            let Some(files) = &followed.files else { return };
            if files.has(relative, folder || gone_folder) {
                return;
            }
            if moved {
                // Another folder may have this name by now.
                self.forget_below(app, path);
            }
            if folder {
                self.walk(app, path.to_owned(), &mut HashSet::new());
            }
            self.tell(app, What::Files);
        }
    }

    fn judge_root(&mut self, app: AppId, moved: bool) {
        let Some(followed) = self.apps.get(&app) else { return };
        let (before, files) = (followed.place, followed.files.is_some());
        if !moved {
            // Its mode, or that of a file that is the whole app, whose content counts.
            let is_file = followed.root.metadata().is_ok_and(|found| found.is_file());
            if is_file && files {
                self.tell(app, What::Files);
            }
            return;
        }
        self.follow(app);
        let after = self.apps.get(&app).and_then(|followed| followed.place);
        self.tell(app, What::Stirred);
        if after.is_some() && after != before {
            self.tell(app, What::Replaced);
        }
    }

    // ── watches ──────────────────────────────────────────────────────────────────────────────────

    /// Watches what is to be watched of an app as it lies there now, and nothing else of it. So many folders these are.
    fn follow(&mut self, app: AppId) -> usize {
        let Some(followed) = self.apps.get_mut(&app) else { return 0 };
        let found = followed.root.metadata();
        followed.place = found.as_ref().ok().map(place);
        let (root, files) = (followed.root.clone(), followed.files.is_some());
        let mut wanted = HashSet::new();
        if let Some(parent) = root.parent() {
            self.watch(app, parent, &mut wanted);
        }
        if found.is_ok_and(|found| found.is_dir()) {
            let whole =
                if files { self.walk(app, root.clone(), &mut wanted) } else { self.watch(app, &root, &mut wanted) };
            if whole && root.join("tmp").symlink_metadata().is_ok_and(|found| found.is_dir()) {
                self.watch(app, &root.join("tmp"), &mut wanted);
            }
        }
        self.keep_names(app, &wanted);
        wanted.len()
    }

    /// Watches a folder and those below it that aren't ignored, but through no link. False: there can be no more.
    fn walk(&mut self, app: AppId, top: PathBuf, wanted: &mut HashSet<PathBuf>) -> bool {
        let mut open = vec![top];
        while let Some(folder) = open.pop() {
            if wanted.len() >= MOST_FOLDERS {
                let why = format!("there are more than {MOST_FOLDERS} folders below it: name some in watch_ignore");
                self.tell(app, What::Missed(Reason::TooManyFolders, why));
                return false;
            }
            // Before it is read: what is made later is told.
            if !self.watch(app, &folder, wanted) {
                return false;
            }
            let Some(followed) = self.apps.get(&app) else { return false };
            let (Some(files), Ok(entries)) = (&followed.files, std::fs::read_dir(&folder)) else { continue };
            let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let paths = folders.map(|entry| entry.path());
            let to_watch =
                |path: &PathBuf| path.strip_prefix(&followed.root).is_ok_and(|below| !files.has(below, true));
            open.extend(paths.filter(to_watch));
        }
        true
    }

    /// Watches one folder. False: the system has no more watches.
    fn watch(&mut self, app: AppId, name: &Path, wanted: &mut HashSet<PathBuf>) -> bool {
        let Ok(found) = name.metadata() else { return true };
        let place = place(&found);
        if let Some(path) = self.by_place.get(&place) {
            if let Some(watched) = self.watched.get_mut(path) {
                watched.names.insert((app, name.to_owned()));
            }
            wanted.insert(name.to_owned());
            return true;
        }
        // The watcher would mix up two folders of one name.
        let others = self.forget(name);
        match self.begin_watch(name) {
            Ok(()) => {
                let names = BTreeSet::from([(app, name.to_owned())]);
                self.watched.insert(name.to_owned(), Watched { place, names });
                self.by_place.insert(place, name.to_owned());
                wanted.insert(name.to_owned());
                for other in others.into_iter().filter(|other| *other != app) {
                    self.follow(other);
                }
                true
            }
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => true,
            Err(error) => {
                let (reason, why) = unwatched(name, &error);
                self.tell(app, What::Missed(reason, why));
                !matches!(reason, Reason::NoWatches | Reason::NoInstances)
            }
        }
    }

    fn begin_watch(&mut self, folder: &Path) -> notify::Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let inbox = Arc::clone(&self.inbox);
                let made = notify::recommended_watcher(move |event| inbox.take(event))?;
                none.insert(made)
            }
        };
        watcher.watch(folder, RecursiveMode::NonRecursive)
    }

    /// Drops the names that an app has for folders, but for these.
    fn keep_names(&mut self, app: AppId, wanted: &HashSet<PathBuf>) {
        let mut unused = Vec::new();
        for (path, watched) in &mut self.watched {
            let place = watched.place;
            // A name may lead to another folder by now.
            let leads = |name: &Path| name.metadata().is_ok_and(|found| self::place(&found) == place);
            watched.names.retain(|(of, name)| *of != app || wanted.contains(name) && leads(name));
            if watched.names.is_empty() {
                unused.push(path.clone());
            }
        }
        for path in unused {
            self.forget(&path);
        }
    }

    /// What an app called a folder, and all below it, is no more; who else had a name for one of them is followed anew.
    fn forget_below(&mut self, app: AppId, name: &Path) {
        let below = |(of, called): &(AppId, PathBuf)| *of == app && called.starts_with(name);
        let paths = self.watched.iter().filter(|(_, watched)| watched.names.iter().any(below));
        let paths: Vec<PathBuf> = paths.map(|(path, _)| path.clone()).collect();
        let mut others = BTreeSet::new();
        for path in paths {
            others.extend(self.forget(&path));
        }
        others.remove(&app);
        for other in others {
            self.follow(other);
        }
    }

    /// Who had a name for it is returned.
    fn forget(&mut self, path: &Path) -> BTreeSet<AppId> {
        let Some(watched) = self.watched.remove(path) else { return BTreeSet::new() };
        self.by_place.remove(&watched.place);
        if let Some(watcher) = &mut self.watcher {
            // The kernel may have done so by itself: the folder is gone.
            let _ = watcher.unwatch(path);
        }
        watched.names.into_iter().map(|(app, _)| app).collect()
    }
}

/// Whether something came to a name, or left it.
fn is_about_a_name(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(CreateKind::Any | CreateKind::File | CreateKind::Folder | CreateKind::Other)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// `NAME` with something after it, beside it.
fn beside(root: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = OsString::from(root.file_name()?);
    name.push(ending);
    Some(root.with_file_name(name))
}

/// Why a folder is not watched.
fn unwatched(folder: &Path, error: &notify::Error) -> (Reason, String) {
    const NO_WATCHES: &str = "the system allows no more watches: raise fs.inotify.max_user_watches with sysctl";
    const NO_INSTANCES: &str = "the system allows no more watchers: raise fs.inotify.max_user_instances with sysctl";
    let folder = folder.display();
    match &error.kind {
        ErrorKind::MaxFilesWatch => (Reason::NoWatches, NO_WATCHES.into()),
        ErrorKind::Io(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            (Reason::NoInstances, NO_INSTANCES.into())
        }
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            (Reason::Unreadable, format!("the pool's user may not read {folder}"))
        }
        ErrorKind::Io(error) => (Reason::Other, format!("{folder}: {error}")),
        other => (Reason::Other, format!("{folder}: {other:?}")),
    }
}

#[cfg(test)]
mod tests;
