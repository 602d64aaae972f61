//! One seed from beginning to end: nothing wrong under faults, then everything right after healing.

use crate::books::{Checked, Use};
use crate::kinds::Tally;
use crate::knobs::AppKnobs;
use crate::planted::Bug;
use crate::world::World;
use hatchery_pool::{AppSnapshot, Event, Request, RestartMode, Time, WorkerId, WorkerSnapshot, WorkerState};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a seed showed.
pub(crate) struct Shown {
    pub(crate) tally: Tally,
    pub(crate) steps: u64,
}

/// # Errors
///
/// What went wrong, and when.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Result<Shown, String> {
    tell(World::new(seed, bug), seed)
}

/// The same, and every event and effect is printed.
///
/// # Errors
///
/// What went wrong, and when.
pub(crate) fn run_aloud(seed: u64) -> Result<Shown, String> {
    let mut world = World::new(seed, None);
    world.aloud = true;
    tell(world, seed)
}

fn tell(mut world: World, seed: u64) -> Result<Shown, String> {
    match live(&mut world) {
        Ok(()) => Ok(Shown { tally: world.tally, steps: world.steps }),
        Err(wrong) => Err(format!("seed {seed}, step {}, at {}: {wrong}", world.steps, world.now)),
    }
}

fn live(world: &mut World) -> Checked {
    world.configure()?;
    suffer(world)?;
    if world.random.percent(15) {
        return end(world);
    }
    heal(world)?;
    empty(world)?;
    end(world)
}

/// Faults of every kind. Every step is checked.
fn suffer(world: &mut World) -> Checked {
    for _ in 0..world.knobs.acts {
        let next = world.now + world.random.millis(0..=world.knobs.gap);
        world.run_until(next)?;
        world.act()?;
    }
    Ok(())
}

/// Sessions end and starts succeed: everyone who waits is answered within a bound, whatever one app that is
/// never left alone asks for.
fn heal(world: &mut World) -> Checked {
    world.faults = false;
    world.restore()?;
    let waiting: BTreeSet<Request> = world.books.open.keys().copied().collect();
    // The oldest waiter of all needs at most: to be old enough for fairness, a victim that served long
    // enough, its drain, its stop, a start; and before those, a start and a stop that hang, left from before.
    let for_one = Duration::from_secs(30);
    let bound = world.now + for_one * (waiting.len() as u32 + 2);
    let hogged = world.random.percent(50);
    while waiting.iter().any(|request| world.books.open.contains_key(request)) {
        if world.now > bound {
            return Err(format!("not answered within {for_one:?} each (invariant 4): {:?}", world.books.open));
        }
        go_on(world, hogged)?;
    }
    let bound = world.now + for_one * (world.books.open.len() as u32 + 2);
    while !world.books.open.is_empty() {
        if world.now > bound {
            return Err(format!("not answered within {for_one:?} each (invariant 4): {:?}", world.books.open));
        }
        go_on(world, false)?;
    }
    switch(world)?;
    renew(world)?;
    restore(world)
}

fn go_on(world: &mut World, hogged: bool) -> Checked {
    let next = world.now + world.random.millis(1..=100);
    world.run_until(next)?;
    if hogged {
        world.hog()?;
    }
    world.close_one()
}

/// Every restart, and every exchange, comes to an end.
fn switch(world: &mut World) -> Checked {
    for root in world.knobs.apps.iter().map(|app| app.root.clone()).collect::<Vec<_>>() {
        match world.random.number(0..=5) {
            0 | 1 => world.tell(Event::Restart { request: None, root, mode: RestartMode::Graceful })?,
            2 => world.tell(Event::Restart { request: None, root, mode: RestartMode::Kill })?,
            3 => world.tell(Event::Staged { request: None, root })?,
            _ => {}
        }
    }
    let bound = world.now + Duration::from_secs(330);
    while !world.books.deploying().is_empty() {
        if world.now > bound {
            let left = world.machine.pool.snapshot(world.now);
            return Err(format!("{:?} restart without an end (invariant 20): {left:?}", world.books.deploying()));
        }
        if world.random.percent(10) {
            world.ask()?;
        }
        go_on(world, false)?;
    }
    Ok(())
}

/// Every worker that has done enough is replaced, or leaves.
fn renew(world: &mut World) -> Checked {
    let spent: BTreeSet<WorkerId> = world.books.spent().into_iter().collect();
    // A replacement that failed, or a breaker that opened, may have put it off for five minutes.
    let bound = world.now + Duration::from_secs(330) + Duration::from_secs(30) * spent.len() as u32;
    while world.books.spent().iter().any(|worker| spent.contains(worker)) {
        if world.now > bound {
            let left = world.machine.pool.snapshot(world.now);
            return Err(format!("{spent:?} are not replaced (invariant 11): {left:?}"));
        }
        if world.random.percent(20) {
            world.ask()?;
        }
        go_on(world, false)?;
    }
    Ok(())
}

/// Every app that is asked for has as many workers as it shall have at least, or there is no room for them.
fn restore(world: &mut World) -> Checked {
    for app in world.knobs.apps.clone() {
        let bound = world.now + Duration::from_secs(400);
        // A start from before may hang, fail in the end, and put off the others until somebody asks again.
        while let Some(short) = ask_and_see(world, &app)? {
            if world.now > bound {
                return Err(format!("fewer workers than are to be kept (invariant 17): {short:?}"));
            }
        }
    }
    Ok(())
}

/// Asks once, lets that be over, and waits a while for workers. Some that are lacking then are returned.
fn ask_and_see(world: &mut World, app: &AppKnobs) -> Result<Option<AppSnapshot>, String> {
    world.ask_for(app)?;
    let bound = world.now + Duration::from_secs(60);
    while !world.books.open.is_empty() || !world.sessions(Use::Open).is_empty() {
        if world.now > bound {
            return Err(format!("not answered (invariant 4): {:?}", world.books.open));
        }
        go_on(world, false)?;
    }
    let bound = world.now + Duration::from_secs(10);
    while let Some(short) = shortage(world, app) {
        if world.now > bound {
            return Ok(Some(short));
        }
        world.run_until(world.now + Duration::from_millis(100))?;
    }
    Ok(None)
}

/// An app with fewer workers than it shall have, though there is room.
fn shortage(world: &World, app: &AppKnobs) -> Option<AppSnapshot> {
    let seen = world.machine.pool.snapshot(world.now);
    let full = seen.count >= seen.max;
    let found = seen.apps.into_iter().find(|seen| seen.root == app.root && seen.disabled.is_none())?;
    let stays = |state| matches!(state, WorkerState::Starting | WorkerState::Ready | WorkerState::Busy);
    let live = found.workers.iter().filter(|worker| stays(worker.state)).count() as u32;
    let limit = world.books.limit_of(&app.root).unwrap_or(u32::MAX);
    let limits = world.books.tenant_limits(&app.root);
    let crowded = limits.max.zip(world.books.of_tenant(&app.root)).is_some_and(|(max, count)| count >= max.get());
    // What its tenant's workers use comes and goes.
    let full = full || crowded || limits.max_memory.is_some();
    (!full && live < app.wanted.min.unwrap_or(0).min(limit) && found.served > 0).then_some(found)
}

/// Every client is gone and every app idle past its time: bookkeeping returns to zero, but for workers that are kept,
/// and what is remembered of broken apps, for a while.
fn empty(world: &mut World) -> Checked {
    for client in std::mem::take(&mut world.clients) {
        world.tell(Event::ClientGone { client })?;
    }
    world.tell(Event::SetMaxIdleTime { request: None, max_idle: Some(Duration::from_secs(1)) })?;
    let bound = world.now + Duration::from_secs(700);
    loop {
        world.run_until(world.now + Duration::from_secs(1))?;
        match left_over(world) {
            Ok(()) => return Ok(()),
            Err(left) if world.now > bound => return Err(left),
            Err(_) => {}
        }
    }
}

/// Workers that are kept come and go with their age; at some moment nothing else is left.
fn left_over(world: &World) -> Checked {
    let left = world.machine.pool.snapshot(world.now);
    for app in &left.apps {
        let min = world.knobs.apps.iter().find(|knobs| knobs.root == app.root).and_then(|knobs| knobs.wanted.min);
        let min = min.unwrap_or(0);
        // One that has to have workers waits for room.
        let limits = world.books.tenant_limits(&app.root);
        let crowded = limits.max.zip(world.books.of_tenant(&app.root)).is_some_and(|(max, count)| count >= max.get());
        let waits = min > 0 && (left.count >= left.max || crowded || limits.max_memory.is_some());
        let unused = app.workers.iter().all(|worker| worker.sessions.is_empty() && worker.leases == 0);
        // Those that are kept are renewed without an end.
        let renewed = |worker: &WorkerSnapshot| worker.state != WorkerState::Ready || worker.why.is_some();
        let (leaving, staying): (Vec<_>, Vec<_>) = app.workers.iter().partition(|worker| renewed(worker));
        let quiet = unused && (leaving.is_empty() || min > 0) && staying.len() <= min as usize;
        // Those that never leave for want of use keep what they have loaded.
        let loaded = world.knobs.settings.max_preloader_idle.is_none() && !app.preloaders.is_empty();
        if !quiet || (app.workers.is_empty() && !app.registered && !waits && !loaded) {
            return Err(format!("left over (invariant 9): {app:?}"));
        }
    }
    if left.waiting > 0 || !world.books.connections.is_empty() {
        return Err(format!("left over (invariant 9): {left:?}"));
    }
    let loaded = left.apps.iter().any(|app| !app.preloaders.is_empty());
    // Those of workers that are kept are used whenever one is renewed.
    let unused = left.apps.iter().any(|app| !app.preloaders.is_empty() && app.workers.is_empty());
    if unused && world.knobs.settings.max_preloader_idle.is_some() {
        return Err(format!("preloaders are left over (invariant 23): {left:?}"));
    }
    let plans = world.books.plans_left();
    if !plans.is_empty() {
        return Err(format!("something is known of {plans:?}, which nobody uses (invariant 18)"));
    }
    let kept = left.count > 0 || loaded;
    if kept || world.is_quiet() { Ok(()) } else { Err("something is left to do (invariant 9)".into()) }
}

/// The pool is told to go.
fn end(world: &mut World) -> Checked {
    let grace = if world.random.percent(40) { Duration::ZERO } else { world.random.millis(1..=4000) };
    world.tell(Event::Ending { grace })?;
    if grace.is_zero() && !world.sessions(Use::Open).is_empty() {
        return Err("nobody is left to read an answer, and a session goes on".into());
    }
    let bound = world.now + grace + Duration::from_secs(10);
    if world.random.percent(20) {
        world.ask()?;
        world.tell(Event::Ending { grace: grace / 2 })?;
    }
    while !world.books.ended {
        if world.now > bound {
            return Err(format!("not ended: {:?}", world.machine.pool.snapshot(world.now)));
        }
        let next = world.now + Duration::from_millis(50);
        world.run_until(next)?;
        world.act()?;
    }
    world.run_until(Time::from_start(world.now.since_start() + Duration::from_secs(100)))?;
    if world.is_quiet() { Ok(()) } else { Err("something is left to do after the end".into()) }
}
