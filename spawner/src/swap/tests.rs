use super::scene::MARKER;
use super::steps::EXCHANGE_WITH_GAP;
use super::*;
use hatchery_protocol::report::SpawnReport;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// An app with its versions, each of which says in a file (or is a file that says) which one it is.
struct App {
    base: tempfile::TempDir,
    kind: Kind,
    terms: Terms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

/// In memory, where there is one: what is there is written at once, and these tests write many thousand times.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

const DEEP: &str = "a/b/c/d/e";

impl App {
    /// With `NAME` and these other versions: ending and what they say.
    fn new(kind: Kind, others: &[(&str, &str)]) -> Self {
        let terms = Terms { pool: "none".into(), app: AppNumber(7), id: None, privileged: false, gap: false };
        let app = Self { base: folder(), kind, terms };
        app.put("", "old");
        others.iter().for_each(|(ending, version)| app.put(ending, version));
        app
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.base.path().join(format!("shop{ending}"))
    }

    fn root(&self) -> Vec<u8> {
        self.path("").as_os_str().as_bytes().to_vec()
    }

    fn names(&self) -> Names {
        Names::of(&self.root()).unwrap()
    }

    fn put(&self, ending: &str, version: &str) {
        let path = self.path(ending);
        match self.kind {
            Kind::File => std::fs::write(path, version).unwrap(),
            Kind::Folder => {
                std::fs::create_dir_all(path.join(DEEP)).unwrap();
                std::fs::write(path.join("version"), version).unwrap();
                std::fs::write(path.join(DEEP).join("version"), version).unwrap();
            }
        }
    }

    /// Which version is there, whole.
    fn at(&self, ending: &str) -> Option<String> {
        let path = self.path(ending);
        path.symlink_metadata().ok()?;
        if self.kind == Kind::File {
            return Some(std::fs::read_to_string(path).unwrap());
        }
        let version = std::fs::read_to_string(path.join("version")).unwrap();
        assert_eq!(std::fs::read_to_string(path.join(DEEP).join("version")).unwrap(), version);
        Some(version)
    }

    fn versions(&self) -> Vec<(&'static str, String)> {
        ["", ".update", ".deploying", ".backup", ".failed"]
            .into_iter()
            .filter_map(|ending| Some((ending, self.at(ending)?)))
            .collect()
    }

    fn hands(&self) -> Hands {
        Hands::open(&self.names(), &who::outlook(&self.names()).unwrap()).unwrap()
    }

    fn swap(&self, step: SwapStep) -> Result<(), SpawnReport> {
        let id = self.terms.id.clone().unwrap_or_else(|| presence::fresh_id().unwrap());
        let terms = Terms { id: Some(id), ..self.terms.clone() };
        match swap(&self.root(), step, &terms) {
            Answer::Swapped => Ok(()),
            Answer::Failed(report) => Err(*report),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, step: SwapStep) -> String {
        let before = self.all_names();
        let report = self.swap(step).unwrap_err();
        assert!(!report.remedy.is_empty());
        assert_eq!(self.all_names(), before, "after {report:?}");
        report.problem.replace(&self.base.path().display().to_string(), "")
    }

    fn all_names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.base.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn inspect(&self) {
        before_inspection(&self.root(), false);
    }

    /// Nothing of an exchange is left, but versions in their places.
    fn assert_tidy(&self) {
        for ending in ["", ".update", ".backup", ".failed"] {
            assert!(self.path(ending).join(MARKER).symlink_metadata().is_err(), "a marker in shop{ending}");
        }
        for ending in [".deploying", ".deploying-id"] {
            assert!(self.path(ending).symlink_metadata().is_err(), "shop{ending} is left");
        }
        assert!(!self.all_names().contains(".shop.hatchery-gap"));
    }
}

fn versions(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    expected.iter().map(|(ending, version)| (*ending, (*version).to_owned())).collect()
}

#[test]
fn an_update_takes_the_place_and_what_was_there_is_the_backup() {
    for kind in [Kind::Folder, Kind::File] {
        let app = App::new(kind, &[(".update", "new"), (".backup", "older")]);
        app.swap(SwapStep::Take).unwrap();
        assert_eq!(app.versions(), versions(&[("", "new"), (".deploying", "old"), (".backup", "older")]));
        app.swap(SwapStep::Keep).unwrap();
        assert_eq!(app.versions(), versions(&[("", "new"), (".backup", "old")]));
        app.assert_tidy();
        clear(&app.root(), false);
        assert_eq!(app.all_names().len(), 2, "{:?}", app.all_names());
    }
}

#[test]
fn an_update_that_fails_is_undone_and_kept_apart() {
    for kind in [Kind::Folder, Kind::File] {
        let app = App::new(kind, &[(".update", "new"), (".backup", "older"), (".failed", "worse")]);
        app.swap(SwapStep::Take).unwrap();
        app.swap(SwapStep::Undo).unwrap();
        assert_eq!(app.versions(), versions(&[("", "old"), (".backup", "older"), (".failed", "new")]));
        app.assert_tidy();
        clear(&app.root(), false);
        assert_eq!(app.all_names().len(), 3, "{:?}", app.all_names());
    }
}

#[test]
fn the_backup_comes_back_and_what_was_there_is_the_next() {
    for kind in [Kind::Folder, Kind::File] {
        let app = App::new(kind, &[(".backup", "older")]);
        for there in ["older", "old"] {
            app.swap(SwapStep::Back).unwrap();
            app.swap(SwapStep::Keep).unwrap();
            assert_eq!(app.at("").unwrap(), there);
        }
        assert_eq!(app.versions(), versions(&[("", "old"), (".backup", "older")]));
        app.assert_tidy();
    }
}

#[test]
fn what_says_that_it_is_complete_says_so_until_it_is_kept() {
    let app = App::new(Kind::Folder, &[(".update", "new")]);
    std::fs::write(app.path(".update").join(".complete"), "").unwrap();
    app.swap(SwapStep::Take).unwrap();
    app.swap(SwapStep::Keep).unwrap();
    assert!(!app.path("").join(".complete").exists());
}

/// What can be in progress: with which other versions, of which origin, and with which verdict.
const HISTORIES: [(usize, Origin, Option<Verdict>); 9] = [
    (1, Origin::Update, None),
    (1, Origin::Update, Some(Verdict::Keep)),
    (1, Origin::Update, Some(Verdict::Undo)),
    (3, Origin::Update, None),
    (3, Origin::Update, Some(Verdict::Keep)),
    (3, Origin::Update, Some(Verdict::Undo)),
    (3, Origin::Backup, None),
    (3, Origin::Backup, Some(Verdict::Keep)),
    (3, Origin::Backup, Some(Verdict::Undo)),
];

/// An app with all that was done before, and the steps that come next.
fn history(kind: Kind, which: usize) -> (App, Vec<Op>) {
    let (others, origin, verdict) = HISTORIES[which];
    let app = App::new(kind, &[(".update", "new"), (".backup", "older"), (".failed", "worse")][..others]);
    let id = presence::fresh_id().unwrap();
    let pool = app.terms.pool.clone();
    let begin = steps::begin(Mark { id, pool, app: app.terms.app, origin, stage: Stage::Trying });
    let Some(verdict) = verdict else { return (app, begin) };
    perform(&app.hands(), &begin, Gap::Refused).unwrap();
    let scene = app.hands().scene().unwrap();
    let ops = match verdict {
        Verdict::Keep => steps::keep(&scene),
        Verdict::Undo => steps::undo(&scene),
    };
    (app, ops.unwrap())
}

fn with_gaps(ops: Vec<Op>) -> Vec<Op> {
    ops.into_iter().flat_map(|op| if op == Op::Exchange { EXCHANGE_WITH_GAP.to_vec() } else { vec![op] }).collect()
}

/// Kills the `which`th history after `done` of its steps, and its recovery after `recovered` of its own, and lets the
/// next inspection find that. `None`: there are no so many steps.
fn kill(kind: Kind, gap: bool, which: usize, done: usize, recovered: usize) -> Option<App> {
    let (app, ops) = history(kind, which);
    let ops = if gap { with_gaps(ops) } else { ops };
    let before: BTreeSet<_> = app.versions().into_iter().map(|(_, version)| version).collect();
    perform(&app.hands(), ops.get(..done)?, Gap::Refused).unwrap();
    if !gap {
        let there = app.at("").unwrap();
        assert!(["old", "new", "older"].contains(&there.as_str()), "{there}");
    }
    for _ in 0..recovered {
        let hands = app.hands();
        let op = recover::next(&hands.scene().unwrap(), |_| false)?;
        hands.perform(&op, Gap::Permitted).unwrap();
        if !gap {
            app.at("").unwrap();
        }
    }
    app.inspect();
    app.assert_tidy();
    let mut after: BTreeSet<_> = app.versions().into_iter().map(|(_, version)| version).collect();
    // One that another one has taken the place of, as it was to.
    after.extend(["older", "worse"].into_iter().filter(|version| before.contains(*version)).map(str::to_owned));
    assert_eq!(after, before, "history {which}, {done} steps, {recovered} of recovery");
    Some(app)
}

#[test]
fn killed_at_any_step_and_again_while_that_is_put_right_one_version_is_there_whole() {
    for (kind, gap) in [(Kind::Folder, false), (Kind::File, false), (Kind::Folder, true), (Kind::File, true)] {
        let mut killed = 0;
        for which in 0..HISTORIES.len() {
            for done in 0.. {
                let recoveries = (0..).map_while(|recovered| kill(kind, gap, which, done, recovered)).count();
                if recoveries == 0 {
                    break;
                }
                killed += recoveries;
            }
        }
        assert!(killed > 80, "only {killed}");
    }
}

#[test]
fn what_was_killed_without_a_verdict_is_undone_and_what_had_one_is_carried_out() {
    let ends = |which: usize, done: usize| {
        let (app, ops) = history(Kind::Folder, which);
        perform(&app.hands(), &ops[..done], Gap::Refused).unwrap();
        app.inspect();
        app.versions()
    };
    // Taken: with the marker, renamed, exchanged.
    for done in 0..=3 {
        assert_eq!(ends(0, done), versions(&[("", "old"), (".update", "new")]), "after {done}");
    }
    // Kept: before it was said, and from then on.
    assert_eq!(ends(1, 0), versions(&[("", "old"), (".update", "new")]));
    for done in 1..=3 {
        assert_eq!(ends(1, done), versions(&[("", "new"), (".backup", "old")]), "after {done}");
    }
    // Undone.
    assert_eq!(ends(2, 0), versions(&[("", "old"), (".update", "new")]));
    for done in 1..=4 {
        assert_eq!(ends(2, done), versions(&[("", "old"), (".failed", "new")]), "after {done}");
    }
}

#[test]
fn what_was_tried_makes_way_for_a_newer_update() {
    let app = App::new(Kind::Folder, &[(".update", "new")]);
    app.swap(SwapStep::Take).unwrap();
    app.put(".update", "newer");
    app.inspect();
    assert_eq!(app.versions(), versions(&[("", "old"), (".update", "newer"), (".failed", "new")]));
    app.assert_tidy();
}

#[test]
fn what_is_being_tried_is_left_as_it_is() {
    let mut app = App::new(Kind::Folder, &[(".update", "new")]);
    let id = presence::fresh_id().unwrap();
    let presence = presence::announce(&id).unwrap();
    app.terms.id = Some(id);
    app.swap(SwapStep::Take).unwrap();
    app.terms.id = None;
    let tried = versions(&[("", "new"), (".deploying", "old")]);
    app.inspect();
    assert_eq!(app.versions(), tried);
    // For another name of the app, and by another pool, too.
    for (pool, number) in [("none", 8), ("other", 7)] {
        app.terms.pool = pool.into();
        app.terms.app = AppNumber(number);
        app.put(".update", "newer");
        assert_eq!(app.refused(SwapStep::Take), "another version of /shop is tried already");
        std::fs::remove_dir_all(app.path(".update")).unwrap();
        for step in [SwapStep::Keep, SwapStep::Undo] {
            assert_eq!(app.refused(step), "another version of /shop is tried already");
        }
    }
    drop(presence);
    app.inspect();
    assert_eq!(app.versions(), versions(&[("", "old"), (".update", "new")]));
}

#[test]
fn a_marker_that_was_copied_along_says_nothing() {
    let app = App::new(Kind::Folder, &[(".update", "new"), (".backup", "older")]);
    app.swap(SwapStep::Take).unwrap();
    let marker = std::fs::read(app.path("").join(MARKER)).unwrap();
    app.swap(SwapStep::Keep).unwrap();
    app.put(".update", "newer");
    std::fs::write(app.path(".update").join(MARKER), &marker).unwrap();
    app.swap(SwapStep::Take).unwrap();
    assert_ne!(std::fs::read(app.path("").join(MARKER)).unwrap(), marker);
    app.swap(SwapStep::Undo).unwrap();
    assert_eq!(app.versions(), versions(&[("", "new"), (".backup", "old"), (".failed", "newer")]));
    app.assert_tidy();
}

#[test]
fn links_planted_for_versions_are_not_followed() {
    let treasure = folder();
    std::fs::write(treasure.path().join("version"), "treasure").unwrap();
    let plant = |path: &Path| symlink(treasure.path(), path).unwrap();
    for kind in [Kind::Folder, Kind::File] {
        let app = App::new(kind, &[]);
        plant(&app.path(".update"));
        assert_eq!(app.refused(SwapStep::Take), "/shop.update is a symbolic link, which is not followed");
        plant(&app.path(".backup"));
        assert_eq!(app.refused(SwapStep::Back), "/shop.backup is a symbolic link, which is not followed");
        std::fs::remove_file(app.path(".update")).unwrap();
        app.put(".update", "new");
        plant(&app.path(".deploying"));
        assert_eq!(app.refused(SwapStep::Take), "/shop.deploying is in the way, and not of an exchange of ours");
        std::fs::remove_file(app.path(".deploying")).unwrap();

        // One at the backup goes itself.
        app.swap(SwapStep::Take).unwrap();
        app.swap(SwapStep::Keep).unwrap();
        clear(&app.root(), false);
        assert_eq!(app.versions(), versions(&[("", "new"), (".backup", "old")]));
    }
    assert_eq!(std::fs::read_to_string(treasure.path().join("version")).unwrap(), "treasure");
}

#[test]
fn a_link_in_the_place_of_what_was_there_before_is_not_put_back() {
    let app = App::new(Kind::Folder, &[(".update", "new")]);
    app.swap(SwapStep::Take).unwrap();
    std::fs::rename(app.path(".deploying"), app.path(".elsewhere")).unwrap();
    symlink("/etc", app.path(".deploying")).unwrap();
    assert_eq!(app.refused(SwapStep::Undo), "/shop.deploying does not exist, or is no version");
    app.inspect();
    assert_eq!(app.at("").unwrap(), "new");
    assert!(!app.path("").is_symlink());
}

#[test]
fn a_link_or_a_second_name_in_the_place_of_the_marker_leaves_what_it_leads_to_unwritten() {
    let treasure = folder();
    let file = treasure.path().join("treasure");
    std::fs::write(&file, "treasure").unwrap();
    for (place, second_name) in [(MARKER, false), (MARKER, true), (".hatchery-deploy.new", false)] {
        let app = App::new(Kind::Folder, &[(".update", "new")]);
        let planted = app.path(".update").join(place);
        if second_name {
            std::fs::hard_link(&file, planted).unwrap();
        } else {
            symlink(&file, planted).unwrap();
        }
        app.swap(SwapStep::Take).unwrap();
        app.swap(SwapStep::Keep).unwrap();
        assert_eq!(app.at("").unwrap(), "new");
    }
    let app = App::new(Kind::File, &[(".update", "new")]);
    symlink(&file, app.path(".deploying-id")).unwrap();
    app.swap(SwapStep::Take).unwrap();
    app.swap(SwapStep::Keep).unwrap();
    app.assert_tidy();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "treasure");
}

#[test]
fn files_with_second_names_keep_their_content_there() {
    let app = App::new(Kind::Folder, &[(".update", "new"), (".backup", "older")]);
    let shared = app.base.path().join("shared");
    std::fs::write(&shared, "shared").unwrap();
    for ending in ["", ".update", ".backup"] {
        std::fs::hard_link(&shared, app.path(ending).join("shared")).unwrap();
    }
    app.swap(SwapStep::Take).unwrap();
    app.swap(SwapStep::Keep).unwrap();
    clear(&app.root(), false);
    assert_eq!(std::fs::read_to_string(&shared).unwrap(), "shared");
    assert_eq!(std::fs::metadata(&shared).unwrap().nlink(), 3);
}

#[test]
fn a_program_that_has_a_second_name_beside_it_is_exchanged() {
    // The backup that is the very file which is there.
    let app = App::new(Kind::File, &[(".update", "new")]);
    std::fs::hard_link(app.path(""), app.path(".backup")).unwrap();
    app.swap(SwapStep::Take).unwrap();
    app.swap(SwapStep::Keep).unwrap();
    assert_eq!(app.versions(), versions(&[("", "new"), (".backup", "old")]));
    app.assert_tidy();
}

#[test]
fn what_can_be_no_version_is_refused_by_name() {
    let app = App::new(Kind::Folder, &[]);
    assert_eq!(app.refused(SwapStep::Take), "/shop.update does not exist");
    let no_backup = "there is no version before the present one: /shop.backup does not exist";
    assert_eq!(app.refused(SwapStep::Back), no_backup);
    std::fs::write(app.path(".update"), "").unwrap();
    assert_eq!(app.refused(SwapStep::Take), "/shop.update is a file, and /shop is a folder");
    let nothing = "no new version of /shop is tried: what is there is what was there before";
    assert_eq!(app.refused(SwapStep::Keep), nothing);
    app.swap(SwapStep::Undo).unwrap();

    std::fs::rename(app.path(""), app.path("-1")).unwrap();
    assert_eq!(app.refused(SwapStep::Take), "/shop does not exist");
    symlink("shop-1", app.path("")).unwrap();
    let link = "/shop is a symbolic link, and such an app is deployed by changing the link";
    assert_eq!(app.refused(SwapStep::Take), link);
    let answer = swap(b"/", SwapStep::Take, &app.terms);
    assert!(matches!(answer, Answer::Failed(report) if report.problem.starts_with("/ has no name")));
}

#[test]
fn a_folder_of_that_name_which_is_none_of_ours_stays() {
    let app = App::new(Kind::Folder, &[(".update", "new"), (".deploying", "the user's")]);
    app.inspect();
    assert_eq!(app.refused(SwapStep::Take), "/shop.deploying is in the way, and not of an exchange of ours");
    assert_eq!(app.at(".deploying").unwrap(), "the user's");
}

#[test]
fn a_verdict_on_what_was_undone_meanwhile_says_so() {
    let app = App::new(Kind::Folder, &[(".update", "new")]);
    app.swap(SwapStep::Take).unwrap();
    app.inspect();
    let nothing = "no new version of /shop is tried: what is there is what was there before";
    assert_eq!(app.refused(SwapStep::Keep), nothing);
    app.swap(SwapStep::Undo).unwrap();
    assert_eq!(app.versions(), versions(&[("", "old"), (".update", "new")]));
}

#[test]
fn another_exchange_in_the_same_folder_is_waited_for() {
    let app = App::new(Kind::Folder, &[(".update", "new")]);
    let held = app.hands();
    let root = app.root();
    let terms = Terms { id: presence::fresh_id().ok(), ..app.terms.clone() };
    let other = std::thread::spawn(move || swap(&root, SwapStep::Take, &terms));
    drop(held);
    assert!(matches!(other.join().unwrap(), Answer::Swapped));
}
