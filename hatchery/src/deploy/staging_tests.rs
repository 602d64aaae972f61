use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

/// A folder with an app, `shop`, and a version of it, `next`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("shop/version", "1");
        place.write("next/version", "2");
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn stage(&self, version: &str) -> Result<Staged, Unstaged> {
        Staging::begin(&self.at("shop")).and_then(|staging| staging.stage(&self.at(version)))
    }

    fn refusal(&self, version: &str) -> String {
        let before = self.names();
        let refusal = self.stage(version).unwrap_err().to_string();
        assert_eq!(self.names(), before, "nothing is left after: {refusal}");
        refusal
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_version_lies_beside_its_app_with_all_that_it_has() {
    let place = Place::new();
    place.write("next/bin/run", "#!/bin/sh\n");
    place.mode("next/bin/run", 0o755);
    place.write("next/secret", "s");
    place.mode("next/secret", 0o640);
    place.write("next/deep/er/still", "");
    place.mode("next/deep/er", 0o555);
    place.mode("next", 0o750);
    symlink("bin/run", place.at("next/start")).unwrap();
    symlink("/nowhere", place.at("next/broken")).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(place.at("next/secret")).unwrap().set_modified(hour_ago).unwrap();

    let staged = place.stage("next").unwrap();
    let mode = |path: &str| place.at(path).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(fs::read_to_string(place.at("shop.update/version")).unwrap(), "2");
    assert_eq!((mode("shop.update/bin/run"), mode("shop.update/secret")), (0o755, 0o640));
    assert_eq!((mode("shop.update/deep/er"), mode("shop.update")), (0o555, 0o750));
    assert_eq!(fs::read_link(place.at("shop.update/start")).unwrap(), Path::new("bin/run"));
    assert_eq!(fs::read_link(place.at("shop.update/broken")).unwrap(), Path::new("/nowhere"));
    assert_eq!(place.at("shop.update/secret").metadata().unwrap().modified().unwrap(), hour_ago);
    assert!(place.at("next/version").exists(), "what is copied stays");

    drop(staged);
    assert_eq!(place.names(), ["next", "shop", "shop.update"]);
    place.mode("next/deep/er", 0o755);
    place.mode("shop.update/deep/er", 0o755);
}

#[test]
fn bits_that_would_mean_another_user_and_marks_of_an_earlier_deploy_are_not_copied() {
    let place = Place::new();
    place.write("next/tool", "");
    place.mode("next/tool", 0o6755);
    place.mode("next", 0o2755);
    place.write("next/.complete", "");
    place.write("next/.hatchery-deploy", "id");
    place.write("next/sub/.complete", "the app's own");
    let _staged = place.stage("next").unwrap();
    assert_eq!(place.at("shop.update/tool").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(!place.at("shop.update/.complete").exists() && !place.at("shop.update/.hatchery-deploy").exists());
    assert!(place.at("shop.update/sub/.complete").exists());
}

#[test]
fn a_file_is_a_version_of_a_file() {
    let place = Place::new();
    fs::remove_dir_all(place.at("shop")).unwrap();
    place.write("shop", "old");
    place.write("built", "new");
    place.mode("built", 0o755);
    assert!(place.refusal("next").ends_with("name the new executable"));
    let staged = place.stage("built").unwrap();
    assert_eq!(fs::read_to_string(place.at("shop.update")).unwrap(), "new");
    assert_eq!(place.at("shop.update").metadata().unwrap().mode() & 0o777, 0o755);
    staged.withdraw().unwrap();
    assert_eq!(place.names(), ["built", "next", "shop"]);
}

#[test]
fn what_is_no_version_is_refused_with_what_to_do_and_leaves_nothing() {
    let place = Place::new();
    place.write("file", "");
    symlink("shop", place.at("same")).unwrap();
    for (version, sentence) in [
        ("nothing", "nothing can't be read: No such file"),
        ("file", "is not a folder, as the application"),
        ("shop", "shop is the application itself"),
        ("same", "same is the application itself"),
        (".", "contains the application"),
        ("..", "contains the application"),
    ] {
        let refusal = place.refusal(version);
        assert!(refusal.contains(sentence), "{version}: {refusal}");
    }
    rustix::fs::mknodat(rustix::fs::CWD, place.at("next/pipe"), FileType::Fifo, Mode::RWXU, rustix::fs::makedev(0, 0))
        .unwrap();
    assert!(place.refusal("next").contains("next/pipe is neither file, folder nor link"));
    let demo = Staging::begin(Path::new("/")).unwrap_err().to_string();
    assert!(demo.contains("/ has no folder beside which"), "{demo}");
}

#[test]
fn a_part_of_the_app_can_be_its_next_version() {
    let place = Place::new();
    place.write("shop/build/version", "3");
    let _staged = place.stage("shop/build").unwrap();
    assert_eq!(fs::read_to_string(place.at("shop.update/version")).unwrap(), "3");
}

#[test]
fn an_app_behind_a_link_is_deployed_by_changing_the_link() {
    let place = Place::new();
    fs::rename(place.at("shop"), place.at("first")).unwrap();
    symlink("first", place.at("shop")).unwrap();
    let refusal = place.refusal("next");
    assert!(refusal.contains("is a symbolic link") && refusal.contains("mv -T"), "{refusal}");
}

#[test]
fn a_version_that_waits_already_is_left_alone() {
    let place = Place::new();
    place.write("shop.update/version", "other");
    let refusal = place.refusal("next");
    assert!(refusal.contains("shop.update is there already"), "{refusal}");
    assert_eq!(fs::read_to_string(place.at("shop.update/version")).unwrap(), "other");
    // Whatever it is.
    fs::remove_dir_all(place.at("shop.update")).unwrap();
    symlink("/nowhere", place.at("shop.update")).unwrap();
    assert!(place.refusal("next").contains("is there already"));
}

#[test]
fn two_deploys_of_one_app_don_t_meet() {
    let place = Place::new();
    let first = Staging::begin(&place.at("shop")).unwrap();
    let second = place.stage("next").unwrap_err().to_string();
    assert!(second.contains(".shop.hatchery-staging is in use"), "{second}");
    let staged = first.stage(&place.at("next")).unwrap();
    assert!(place.stage("next").is_err(), "until there is a verdict");
    staged.withdraw().unwrap();
    place.stage("next").unwrap().withdraw().unwrap();
    assert_eq!(place.names(), ["next", "shop"]);
}

#[test]
fn what_a_killed_deploy_left_is_removed_by_the_next() {
    let place = Place::new();
    place.write(".shop.hatchery-staging/version/half/of/it", "");
    place.mode(".shop.hatchery-staging", 0o700);
    place.mode(".shop.hatchery-staging/version/half/of", 0o555);
    drop(place.stage("next").unwrap());
    assert_eq!(place.names(), ["next", "shop", "shop.update"]);
    assert!(!place.at("shop.update/half").exists());
}

#[test]
fn nothing_is_copied_into_what_others_put_there() {
    let place = Place::new();
    fs::create_dir(place.at("elsewhere")).unwrap();
    place.mode("elsewhere", 0o700);
    symlink("elsewhere", place.at(".shop.hatchery-staging")).unwrap();
    assert!(place.refusal("next").contains(".shop.hatchery-staging is not this user's"));
    fs::remove_file(place.at(".shop.hatchery-staging")).unwrap();
    fs::create_dir(place.at(".shop.hatchery-staging")).unwrap();
    place.mode(".shop.hatchery-staging", 0o777);
    assert!(place.refusal("next").contains("is not this user's"), "others may enter it");
    assert_eq!(fs::read_dir(place.at("elsewhere")).unwrap().count(), 0);
}

#[test]
fn only_what_still_lies_there_is_withdrawn() {
    let place = Place::new();
    let taken = place.stage("next").unwrap();
    fs::rename(place.at("shop.update"), place.at("shop.failed")).unwrap();
    taken.withdraw().unwrap();
    assert!(place.at("shop.failed/version").exists());
    let replaced = place.stage("next").unwrap();
    fs::rename(place.at("shop.update"), place.at("aside")).unwrap();
    place.write("shop.update/version", "somebody else's");
    replaced.withdraw().unwrap();
    assert!(place.at("shop.update/version").exists());
}

#[test]
fn a_version_belongs_to_the_app_s_owner() {
    const NOBODY: u32 = 65_534;
    if !geteuid().is_root() {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI demands a_version_belongs_to_the_app_s_owner");
        eprintln!("SKIPPED a_version_belongs_to_the_app_s_owner: only root gives files away");
        return;
    }
    let place = Place::new();
    std::os::unix::fs::chown(place.at("shop"), Some(NOBODY), Some(NOBODY)).unwrap();
    symlink("version", place.at("next/link")).unwrap();
    fs::create_dir(place.at("next/sub")).unwrap();
    let _staged = place.stage("next").unwrap();
    for path in ["shop.update", "shop.update/version", "shop.update/link", "shop.update/sub"] {
        let found = place.at(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{path}");
    }
}
