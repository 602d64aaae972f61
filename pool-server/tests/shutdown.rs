//! What `shutdown` on the admin socket does to a pool whose front end does not hear, and to one whose does.

mod support;

use hatchery_protocol::client::ToClient;
use support::{Start, command_line, says, until};

#[test]
fn a_pool_whose_front_end_does_not_hear_ends_by_itself() {
    let pool = Start::new().must();
    // A client that stays: nothing else ends the pool.
    let mut client = pool.connect();
    assert_eq!(says(&pool.admin, "json shutdown\n"), "{\"ok\":true}\n");
    // Said twice, it is the same.
    assert_eq!(says(&pool.admin, "shutdown\n"), "ok\n");
    until("its keeper is gone", || command_line(pool.keeper).is_empty().then_some(()));
    // The end of the channel, perhaps after a word.
    assert!(!matches!(client.receive(), Ok((message, _)) if !matches!(message, ToClient::Goodbye { .. })));
    assert!(!pool.admin.exists(), "the admin socket is removed");
}

#[test]
fn a_pool_whose_front_end_closes_the_door_has_nothing_to_wait_for() {
    let pool = Start::new().must();
    pool.serves();
    assert_eq!(says(&pool.admin, "shutdown\n"), "ok\n");
    pool.serves();
    pool.end();
}
