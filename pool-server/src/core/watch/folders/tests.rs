//! The thread, on real folders.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

const APP: AppId = AppId(1);

/// The thread, and what it tells, one by one.
struct Eyes {
    folders: Folders,
    seen: to_core::Receiver<Seen>,
    runtime: tokio::runtime::Runtime,
}

impl Eyes {
    fn new() -> Self {
        let (folders, seen) = Folders::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { folders, seen, runtime }
    }

    fn on(root: &Path) -> Self {
        let mut eyes = Self::new();
        eyes.follow(APP, root, 1);
        eyes
    }

    /// Returns once the folders are watched.
    fn follow(&mut self, app: AppId, root: &Path, round: u64) {
        let files = Some(Box::new(Ignored::new(&[]).0));
        self.folders.order(Order::Follow { app, root: root.to_owned(), files, round });
        self.write_until_seen(&root.join(format!("of-{app}-{round}.txt")), app, round);
        self.drain(root);
    }

    fn write_until_seen(&mut self, path: &Path, app: AppId, round: u64) {
        let wanted = Seen { app, round, what: What::Files };
        let seen = (0..1_500).any(|attempt| {
            fs::write(path, attempt.to_string()).unwrap();
            let first = self.next_within(Duration::from_millis(20));
            first.into_iter().chain(std::iter::from_fn(|| self.seen.try_recv().ok())).any(|seen| seen == wanted)
        });
        assert!(seen, "{} is watched", path.display());
    }

    fn next_within(&mut self, time: Duration) -> Option<Seen> {
        let seen = &mut self.seen;
        self.runtime.block_on(async { tokio::time::timeout(time, seen.recv()).await.ok().flatten() })
    }

    fn next(&mut self) -> Seen {
        self.next_within(Duration::from_secs(30)).expect("something is seen")
    }

    fn until(&mut self, what: &What) {
        while self.next().what != *what {}
    }

    /// Whatever was done before is seen after this: the kernel tells things in order.
    fn drain(&mut self, root: &Path) {
        let staged = beside(root, ".update").unwrap();
        fs::create_dir(&staged).unwrap();
        self.until(&What::Stirred);
        fs::remove_dir(&staged).unwrap();
        self.until(&What::Stirred);
    }
}

fn app() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shop");
    fs::create_dir(&root).unwrap();
    (folder, root)
}

#[test]
fn files_in_old_and_new_folders_are_seen_and_ignored_ones_are_not() {
    let (_folder, root) = app();
    fs::create_dir_all(root.join("lib/deep")).unwrap();
    fs::create_dir_all(root.join("node_modules/x")).unwrap();
    let mut eyes = Eyes::on(&root);
    fs::write(root.join("lib/deep/a.py"), "1").unwrap();
    eyes.until(&What::Files);
    eyes.drain(&root);
    fs::create_dir_all(root.join("new/deeper")).unwrap();
    eyes.write_until_seen(&root.join("new/deeper/b.py"), APP, 1);
    fs::create_dir(root.join("lib/__pycache__")).unwrap();
    eyes.drain(&root);
    for ignored in ["node_modules/x/index.js", "errors.log", "lib/__pycache__/a.pyc"] {
        fs::write(root.join(ignored), "1").unwrap();
    }
    // What is seen next is what comes after them.
    fs::create_dir(root.join("tmp")).unwrap();
    assert_eq!(eyes.next().what, What::Stirred);
}

#[test]
fn a_folder_that_was_made_anew_or_moved_is_watched_where_it_is_now() {
    let (_folder, root) = app();
    fs::create_dir_all(root.join("lib")).unwrap();
    let mut eyes = Eyes::on(&root);
    for _ in 0..3 {
        fs::remove_dir_all(root.join("lib")).unwrap();
        fs::create_dir(root.join("lib")).unwrap();
        eyes.drain(&root);
        fs::write(root.join("lib/a.py"), "1").unwrap();
        eyes.until(&What::Files);
        eyes.drain(&root);
    }
    fs::rename(root.join("lib"), root.join("src")).unwrap();
    eyes.until(&What::Files);
    eyes.drain(&root);
    fs::write(root.join("src/a.py"), "2").unwrap();
    eyes.until(&What::Files);
}

#[test]
fn restart_txt_the_link_and_what_is_staged_stir_and_another_folder_is_a_replaced_one() {
    let (folder, release) = app();
    let root = folder.path().join("current");
    symlink(&release, &root).unwrap();
    let mut eyes = Eyes::on(&root);
    fs::create_dir(root.join("tmp")).unwrap();
    eyes.until(&What::Stirred);
    eyes.drain(&root);
    fs::write(root.join("tmp/restart.txt"), "").unwrap();
    eyes.until(&What::Stirred);
    eyes.drain(&root);
    let next = folder.path().join("next");
    fs::create_dir(&next).unwrap();
    symlink(&next, folder.path().join("link")).unwrap();
    fs::rename(folder.path().join("link"), &root).unwrap();
    eyes.until(&What::Replaced);
    eyes.drain(&root);
    // The new one is watched, the old one is not any more.
    fs::write(release.join("old.py"), "").unwrap();
    fs::create_dir(next.join("tmp")).unwrap();
    assert_eq!(eyes.next().what, What::Stirred);
    fs::write(next.join("new.py"), "").unwrap();
    eyes.until(&What::Files);
}

#[test]
fn two_apps_at_one_folder_are_both_told_and_one_may_leave() {
    let (folder, root) = app();
    let link = folder.path().join("link");
    symlink(&root, &link).unwrap();
    let mut eyes = Eyes::on(&root);
    eyes.follow(AppId(2), &link, 1);
    eyes.drain(&root);
    fs::write(root.join("a.py"), "1").unwrap();
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        told.insert(eyes.next().app);
    }
    eyes.folders.order(Order::Leave { app: APP });
    eyes.write_until_seen(&root.join("b.py"), AppId(2), 1);
    eyes.drain(&link);
    fs::write(root.join("c.py"), "1").unwrap();
    assert_eq!(eyes.next().app, AppId(2));
}

#[test]
fn what_is_seen_has_the_number_of_the_last_order() {
    let (_folder, root) = app();
    let mut eyes = Eyes::on(&root);
    eyes.follow(APP, &root, 7);
    fs::write(root.join("a.py"), "1").unwrap();
    assert_eq!(eyes.next(), Seen { app: APP, round: 7, what: What::Files });
}

#[test]
fn a_single_file_is_an_app_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("server");
    let mut eyes = Eyes::new();
    let files = Some(Box::new(Ignored::new(&[]).0));
    fs::write(&root, "0").unwrap();
    eyes.folders.order(Order::Follow { app: APP, root: root.clone(), files, round: 1 });
    eyes.write_until_seen(&root, APP, 1);
}
