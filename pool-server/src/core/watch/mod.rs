//! What about the files of a running app asks for a restart.
//!
//! | file | holds |
//! | --- | --- |
//! | `folders.rs` | the thread that watches folders, and tells that something happened there |
//! | `words.rs` | what it is told, and tells |
//! | `ignore.rs` | what below a root is not watched |
//! | `watched.rs` | one app, and what was seen of it |
//! | `quiet.rs` | when something is done about it |
//!
//! The core looks at no file itself. What `tmp/restart.txt`, a link and a staged update say is told by a look of the
//! spawner's: at once when the watched folders stir, and every 10 s whatever they do, which finds what can't be watched.
//! An exchange of versions, or another link, makes the root another folder, which is a restart already: it begins a
//! *round*, and that the folder was replaced in an earlier one says nothing.

mod folders;
mod ignore;
mod quiet;
mod watched;
mod words;

use super::shell::{Shell, State};
use folders::Folders;
use hatchery_pool::{AppId, AppState, Event, Notice, SwapStep, Time};
use hatchery_protocol::link::{AppNumber, Sight, ToKeeper};
use hatchery_protocol::options::Start;
use ignore::Ignored;
use quiet::Verdict;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use watched::{Settings, Watched, Why};
use words::{Order, Reason, Seen, What};

/// Looks that are open at the same time, of all apps together.
const MOST_LOOKS: usize = 8;
/// Running apps, and what was seen of them.
pub(super) struct Watching {
    folders: Option<Folders>,
    /// Taken by the task that hears it.
    seen: Option<mpsc::Receiver<Seen>>,
    apps: BTreeMap<AppId, Watched>,
    /// Looks that are not answered yet, also at apps that aren't watched any more: a second one is not permitted.
    looking: HashSet<AppId>,
    round: u64,
    /// Something is due earlier than before.
    earlier: Rc<Notify>,
}

impl Watching {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let (folders, seen) = match Folders::start() {
            Ok((folders, seen)) => (Some(folders), Some(seen)),
            Err(error) => {
                tracing::warn!("no folder is watched, and apps are looked at every 10 s instead: a thread: {error}");
                (None, None)
            }
        };
        Self {
            folders,
            seen,
            apps: BTreeMap::new(),
            looking: HashSet::new(),
            round: 0,
            earlier: Rc::new(Notify::new()),
        }
    }

    /// That its root is another folder than before is known.
    fn begin_round(&mut self, app: AppId) {
        self.round += 1;
        if let Some(watched) = self.apps.get_mut(&app) {
            watched.round = self.round;
            watched.folders = None;
            watched.replaced = false;
        }
        self.follow(app);
    }

    /// Watches an app's folders as they lie there now.
    fn follow(&mut self, app: AppId) {
        let Some(watched) = self.apps.get_mut(&app) else { return };
        let round = watched.round;
        let ignored = watched.settings.files.then(|| Ignored::new(&watched.settings.ignore));
        let (files, wrong) = ignored.unzip();
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        if !wrong.is_empty() && watched.is_new(Reason::Pattern) {
            tracing::warn!(app = %String::from_utf8_lossy(&watched.root), "{}", wrong.join("; "));
        }
        if let Some(folders) = &self.folders {
            let root = PathBuf::from(OsStr::from_bytes(&watched.root));
            folders.order(Order::Follow { app, root, files: files.map(Box::new), round });
        }
    }

    /// Nothing is left of an app, or nobody uses it.
    pub(super) fn leave(&mut self, app: AppId) {
        if self.apps.remove(&app).is_some()
            && let Some(folders) = &self.folders
        {
            folders.order(Order::Leave { app });
        }
    }

    /// When something is to be done next.
    fn due(&self) -> Option<Time> {
        let may_look = self.looking.len() < MOST_LOOKS;
        let looks = self.apps.iter().filter(|(app, _)| may_look && !self.looking.contains(app));
        let looks = looks.map(|(_, watched)| watched.looks.due());
        looks.chain(self.apps.values().filter_map(|watched| watched.burst.due())).min()
    }
}

impl State {
    /// An app is about to be started, or to be looked into anew.
    pub(super) fn watch(&mut self, app: AppId) {
        let Some(root) = self.pool.root(app).map(<[u8]>::to_vec) else { return };
        let options = self.options(&root);
        if options.start == Some(Start::DemoApp) {
            // It has no files.
            return;
        }
        let (settings, now) = (Settings::of(&options), self.now());
        let watching = &mut self.watching;
        let new = !watching.apps.contains_key(&app);
        let watched = watching.apps.entry(app).or_insert_with(|| Watched {
            // A look that is still open is of an earlier life.
            stale: watching.looking.contains(&app),
            ..Watched::new(root, settings.clone(), now)
        });
        let changed = watched.settings != settings;
        watched.settings = settings;
        if new {
            watching.begin_round(app);
        } else if changed {
            watching.follow(app);
        }
        if new || changed {
            watching.earlier.notify_one();
        }
    }

    /// What an inspection saw before any worker of it was started is what later looks are held against: else a file
    /// touched between the two would be missed.
    pub(super) fn watch_inspected(&mut self, app: AppId, seen: Option<Sight>) {
        let watched = self.watching.apps.get_mut(&app).filter(|watched| watched.sight.is_none());
        let Some(watched) = watched.filter(|_| seen.is_some()) else { return };
        watched.sight = seen;
        if watched.folders.is_some() {
            self.say_watched(app);
        }
    }

    /// Its options are other ones.
    pub(super) fn watch_as_said(&mut self, root: &[u8]) {
        let app = self.pool.app(root).filter(|app| self.watching.apps.contains_key(app));
        if let Some(app) = app {
            self.watch(app);
        }
    }

    /// What the pool does about an app.
    pub(super) fn watch_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Restarting { app, .. } => {
                // What was done to the files before is part of it. What is done from now on is not.
                if let Some(watched) = self.watching.apps.get_mut(app) {
                    watched.burst.forget();
                    self.watching.follow(*app);
                }
            }
            Notice::UpdateRefused { app, .. } | Notice::Updated { app } | Notice::UpdateUndone { app } => {
                if let Some(watched) = self.watching.apps.get_mut(app) {
                    watched.updating = false;
                }
            }
            _ => {}
        }
    }

    pub(super) fn watch_swap(&mut self, app: AppId, step: SwapStep) {
        if let Some(watched) = self.watching.apps.get_mut(&app) {
            watched.swapping = step != SwapStep::Keep;
            watched.updating = true;
        }
    }

    /// The folder is another one, and what is seen of it now is what later sights are held against.
    pub(super) fn watch_swapped(&mut self, app: AppId) {
        let now = self.now();
        let looking = self.watching.looking.contains(&app);
        let Some(watched) = self.watching.apps.get_mut(&app).filter(|watched| watched.swapping) else { return };
        watched.swapping = false;
        watched.sight = None;
        watched.stale = looking;
        watched.looks.hasten(now);
        self.watching.begin_round(app);
        self.watching.earlier.notify_one();
    }

    /// What is to be done at `now`.
    fn watch_due(&mut self, now: Time) -> Vec<Event> {
        let over = |(app, watched): (&AppId, &mut Watched)| watched.burst.is_over(now).then_some(*app);
        let mut changed: Vec<AppId> = self.watching.apps.iter_mut().filter_map(over).collect();
        changed.retain(|app| {
            tracing::info!(app = self.app_name(*app), "files have changed, and are quiet now");
            self.is_in_use(*app)
        });
        let looking = &self.watching.looking;
        let due =
            self.watching.apps.iter().filter(|(app, watched)| watched.looks.due() <= now && !looking.contains(app));
        let mut due: Vec<(Time, AppId)> = due.map(|(app, watched)| (watched.looks.due(), *app)).collect();
        due.sort();
        for (_, app) in due {
            if self.watching.looking.len() >= MOST_LOOKS {
                break;
            }
            self.look(app, now);
        }
        changed.into_iter().map(|app| Event::FilesChanged { app }).collect()
    }

    fn look(&mut self, app: AppId, now: Time) {
        if !self.is_in_use(app) {
            return self.watching.leave(app);
        }
        let number = AppNumber(self.number(app.0));
        let Some(watched) = self.watching.apps.get_mut(&app) else { return };
        watched.looks.asked(now);
        let root = watched.root.clone();
        self.watching.looking.insert(app);
        self.tell_keeper(&ToKeeper::Look { app: number, root }, &[]);
    }

    /// Whether an app has workers, or would have if it were not broken.
    fn is_in_use(&self, app: AppId) -> bool {
        if self.workers.any_of(app) {
            return true;
        }
        let snapshot = self.pool.snapshot(self.now());
        snapshot.apps.iter().find(|other| other.id == app).is_some_and(|app| {
            let waits_for_a_change = app.disabled.as_ref().is_some_and(|(_, until)| until.is_some());
            app.state == AppState::Starting || app.waiting > 0 || waits_for_a_change
        })
    }

    fn looked(&mut self, app: AppId, sight: Option<Sight>) -> Option<Event> {
        let now = self.now();
        self.watching.looking.remove(&app);
        self.watching.earlier.notify_one();
        let watched = self.watching.apps.get_mut(&app)?;
        if std::mem::take(&mut watched.stale) {
            watched.looks.hasten(now);
            return None;
        }
        let Some(sight) = sight else {
            let sentence = "its folder can't be looked at: touching tmp/restart.txt, another link and a staged update \
                            are not noticed until it can";
            let new = watched.is_new(Reason::Unseen);
            if new {
                tracing::warn!(app = self.app_name(app), "{sentence}");
            }
            return None;
        };
        if watched.swapping {
            return None;
        }
        let update = sight.update;
        if watched.sight.is_none() && watched.folders.is_some() {
            self.say_watched(app);
        }
        let watched = self.watching.apps.get_mut(&app)?;
        if let Some(why) = watched.compare(sight, now) {
            if matches!(why, Why::Target(_)) {
                self.watching.begin_round(app);
            }
            tracing::info!(app = self.app_name(app), "{why}");
            return self.is_in_use(app).then_some(Event::FilesChanged { app });
        }
        if !watched.settings.staged || watched.updating {
            return None;
        }
        match watched.staging.seen(update, now, watched.settings.quiet) {
            Verdict::Nothing => None,
            Verdict::Wait => {
                watched.looks.expect_update(now, watched.settings.quiet);
                None
            }
            Verdict::Take => {
                let root = watched.root.clone();
                tracing::info!(app = self.app_name(app), "its staged update is complete");
                Some(Event::Staged { request: None, root })
            }
        }
    }

    /// What is done to its files from now on is noticed.
    fn say_watched(&self, app: AppId) {
        let folders = self.watching.apps.get(&app).and_then(|watched| watched.folders).unwrap_or_default();
        tracing::debug!(app = self.app_name(app), "watched, with {folders} folders");
    }

    fn seen(&mut self, Seen { app, round, what }: Seen) {
        let now = self.now();
        let Some(watched) = self.watching.apps.get_mut(&app) else { return };
        let is_known = watched.swapping || round != watched.round;
        match what {
            What::Watched(folders) => {
                let first = watched.folders.replace(folders).is_none();
                if first && watched.sight.is_some() {
                    self.say_watched(app);
                }
            }
            What::Stirred => watched.looks.hasten(now),
            What::Replaced if is_known => {}
            What::Replaced => {
                watched.replaced = true;
                watched.looks.hasten(now);
            }
            What::Files => watched.burst.changed(now, watched.settings.quiet),
            What::Missed(reason, why) => {
                let files = watched.settings.files;
                if watched.is_new(reason) {
                    let files = if files { ", and changed files there are not noticed" } else { "" };
                    tracing::warn!(
                        app = self.app_name(app),
                        "not all of it is watched: {why}; it is looked at every 10 s instead{files}"
                    );
                }
            }
        }
    }
}

impl Shell {
    pub(super) fn looked(&self, app: AppNumber, sight: Option<Sight>) {
        let app = AppId(app.0 & u64::from(u32::MAX));
        let event = self.state().looked(app, sight);
        if let Some(event) = event {
            self.tell(event);
        }
    }

    /// Acts upon what is seen, for as long as the core lives.
    pub(super) async fn keep_watch(self) {
        let (mut seen, earlier) = {
            let watching = &mut self.state().watching;
            (watching.seen.take(), Rc::clone(&watching.earlier))
        };
        loop {
            let due = {
                let state = self.state();
                state.watching.due().map(|due| due.since(state.now()))
            };
            tokio::select! {
                Some(news) = hear(&mut seen) => self.state().seen(news),
                () = wait(due) => {
                    let events = {
                        let mut state = self.state();
                        let now = state.now();
                        state.watch_due(now)
                    };
                    events.into_iter().for_each(|event| self.tell(event));
                }
                () = earlier.notified() => {}
            }
        }
    }
}

async fn hear(seen: &mut Option<mpsc::Receiver<Seen>>) -> Option<Seen> {
    let news = match seen {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    };
    if news.is_none() {
        tracing::error!("the thread that watches folders has ended; apps are looked at every 10 s instead");
        *seen = None;
    }
    news
}

async fn wait(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}
