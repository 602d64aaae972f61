//! What takes too many sessions for a scenario to tell.

use hatchery_pool::{
    ClientId, Close, Concurrency, Effect, EndReason, Event, LEASES_WITHOUT_LIMIT, Parking, Plan, Pool, Request,
    SessionId, Settings, Time, Wanted,
};

const CLIENT: ClientId = ClientId(1);

fn ask(pool: &mut Pool, number: u64) -> Vec<Effect> {
    let request = Request { client: CLIENT, number };
    pool.step(Time::ZERO, Event::Asked { request, root: b"/apps/A".to_vec(), wanted: Wanted::default(), key: None })
}

fn granted(effects: &[Effect]) -> Option<SessionId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Grant { session, .. } => Some(*session),
        _ => None,
    })
}

#[test]
fn a_worker_without_a_session_limit_holds_so_many_parked_connections_and_no_more() {
    let mut pool = Pool::new(Settings::default());
    let effects = ask(&mut pool, 0);
    let Some(&Effect::Inspect { app, generation }) = effects.last() else { panic!("{effects:?}") };
    let plan = Plan { concurrency: Concurrency::Unlimited, parking: Parking::Unlimited, preloads: false };
    let effects = pool.step(Time::ZERO, Event::Inspected { app, generation, plan });
    let Some(&Effect::Spawn { worker, .. }) = effects.last() else { panic!("{effects:?}") };

    let mut sessions = vec![granted(&pool.step(Time::ZERO, Event::Ready { worker })).expect("the first is served")];
    for number in 1..=u64::from(LEASES_WITHOUT_LIMIT) {
        sessions.push(granted(&ask(&mut pool, number)).expect("one worker serves all"));
    }
    let last = sessions.pop().expect("there are some");
    for session in sessions {
        assert_eq!(pool.step(Time::ZERO, Event::Closed { client: CLIENT, session, how: Close::Kept }), []);
    }
    let effects = pool.step(Time::ZERO, Event::Closed { client: CLIENT, session: last, how: Close::Kept });
    assert!(matches!(effects[..], [Effect::Revoke { session, why: EndReason::LeaseEnded, .. }] if session == last));
    assert_eq!(pool.snapshot(Time::ZERO).apps[0].workers[0].leases, LEASES_WITHOUT_LIMIT);
    assert_eq!((pool.count(), pool.check(Time::ZERO)), (1, Ok(())));
}
