//! Keeper, core, spawner and front end are killed while there are a preloader and what was forked from it: within two
//! seconds nothing is left that should not be.

use super::scene::{self, fill, noted, preloaders};
use crate::support::apps::App;
use crate::support::front::Front;
use crate::support::{PATIENCE, processes, until_blocking};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What the design promises.
const SETTLED: Duration = Duration::from_secs(2);

/// With a preloader, two workers forked from it, and a daemon that one of them left behind.
struct Scene {
    app: App,
    front: Front,
    pool: String,
}

impl Scene {
    fn of(test: &str) -> Option<Self> {
        let app = scene::app(test, "")?;
        let front = scene::serve(&app, &["--max", "2"]);
        fill(&front, 2);
        front.get("/daemon").ok();
        let pool = front.pool();
        Some(Self { app, front, pool })
    }

    /// Everything that runs the app: what carries a worker's mark.
    fn of_app(&self) -> BTreeSet<i32> {
        processes::marked("HATCHERY_WORKER", &self.pool).into_iter().collect()
    }

    fn role(&self, role: &str) -> i32 {
        let keeper = self.front.keeper();
        until_blocking(role, || processes::role(keeper, role))
    }
}

/// Waits until none of these is left, and says how long it took if that was longer than promised: shared machines are
/// slow at times.
fn gone(what: &str, left: impl Fn() -> Vec<i32>) {
    let began = Instant::now();
    until_blocking(what, || left().is_empty().then_some(()));
    if began.elapsed() > SETTLED {
        eprintln!("{what}: took {:?}, on a machine that is slow now", began.elapsed());
    }
    assert!(began.elapsed() < PATIENCE / 2, "{what}: took {:?}", began.elapsed());
}

#[test]
fn a_killed_keeper_takes_preloader_and_forked_workers_with_it() {
    let Some(scene) = Scene::of("a killed keeper") else { return };
    processes::kill(scene.front.keeper(), Signal::SIGKILL);
    gone("what the keeper parented", || {
        processes::of_pool(&scene.pool).into_iter().filter(|pid| *pid != scene.front.pid()).collect()
    });
}

#[test]
fn a_killed_front_end_takes_preloader_and_forked_workers_with_it() {
    let Some(mut scene) = Scene::of("a killed front end") else { return };
    scene.front.signal(Signal::SIGKILL);
    scene.front.ended();
    gone("what the front end started", || processes::of_pool(&scene.pool));
}

#[test]
fn a_killed_core_takes_preloader_and_forked_workers_with_it_and_comes_back() {
    let Some(scene) = Scene::of("a killed core") else { return };
    let old = scene.of_app();
    let core = scene.role("core");
    processes::kill(core, Signal::SIGKILL);
    gone("the dead core's processes", || (&scene.of_app() & &old).into_iter().collect());
    let pid: i32 = scene.front.get("/").ok().parse().expect("a pid");
    assert!(!old.contains(&pid));
    assert_ne!(scene.role("core"), core);
    assert_eq!(noted(&scene.app, "import").len(), 2, "a preloader of its own");
    assert_eq!(preloaders(&scene.front).len(), 1);
    assert!(scene.front.end().success());
}

#[test]
fn a_killed_spawner_leaves_forked_workers_alone_and_the_next_ones_are_forked_again() {
    let Some(scene) = Scene::of("a killed spawner") else { return };
    let (workers, spawner) = (scene::workers(&scene.front), scene.role("spawner"));
    let preloader = noted(&scene.app, "import")[0];
    processes::kill(spawner, Signal::SIGKILL);
    // Whoever would order its forks is gone.
    gone("the preloader", || [preloader].into_iter().filter(|pid| processes::lives(*pid)).collect());
    until_blocking("there is another spawner", || Some(scene.role("spawner")).filter(|pid| *pid != spawner));
    assert_eq!(scene::workers(&scene.front), workers, "they are not its children");
    for pid in &workers {
        assert!(scene.front.say(&["retire", &pid.to_string()]).status.success());
    }
    gone("the retired", || workers.iter().copied().filter(|pid| processes::lives(*pid)).collect());
    let new: i32 = scene.front.get("/").ok().parse().expect("a pid");
    let preloaders = noted(&scene.app, "import");
    assert_eq!(preloaders.len(), 2, "another preloader: {preloaders:?}");
    assert!(new != preloaders[1] && noted(&scene.app, "before").last() == Some(&preloaders[1]), "{preloaders:?}");
    assert!(scene.front.end().success());
}
