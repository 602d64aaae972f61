//! One function per decoder of bytes from another process: it must not panic, hang or take more memory than the
//! packet's limit allows, and what it accepts must mean the same when it is written and read again. The fuzz
//! targets call these, and so does `cargo test` (`protocol/tests/decoders.rs`).

use hatchery_protocol::client::{ToClient, ToPool};
use hatchery_protocol::codec::{self, Hello, Message};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::link::{FromKeeper, FromSpawner, ToKeeper, ToSpawner};
use hatchery_protocol::report::SpawnReport;
use hatchery_protocol::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A decoder by its name.
pub(crate) type Decoder = (&'static str, fn(&[u8]));

/// All of them; the names are those of the fuzz targets and of the folders in `corpus/`.
pub(crate) const ALL: [Decoder; 12] = [
    ("hello", hello),
    ("to_pool", message::<ToPool>),
    ("to_client", message::<ToClient>),
    ("to_door", message::<ToDoor>),
    ("from_door", message::<FromDoor>),
    ("to_keeper", message::<ToKeeper>),
    ("from_keeper", message::<FromKeeper>),
    ("to_spawner", message::<ToSpawner>),
    ("from_spawner", message::<FromSpawner>),
    ("pool_config", payload::<PoolConfig>),
    ("spawn_report", payload::<SpawnReport>),
    ("status", payload::<Status>),
];

pub(crate) fn hello(bytes: &[u8]) {
    if let Ok((hello, _)) = Hello::decode(bytes) {
        let again = Hello::decode(&hello.encode());
        // An executable's path is cut at 4,096 bytes.
        assert!(again.is_ok() || hello.executable.len() > 4096);
    }
}

pub(crate) fn message<M: Message>(bytes: &[u8]) {
    // The number of descriptors is checked after decoding; here it is always right.
    let Ok(message) = codec::decode_without_descriptors::<M>(bytes) else { return };
    let written = codec::encode(&message).expect("what was decoded can be encoded");
    let again = codec::decode_without_descriptors::<M>(&written).expect("what was encoded can be decoded");
    assert_eq!(codec::encode(&again).expect("twice"), written);
}

pub(crate) fn payload<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = codec::decode_payload::<T>(bytes) else { return };
    let written = codec::encode_payload(&value).expect("what was decoded can be encoded");
    let again: T = codec::decode_payload(&written).expect("what was encoded can be decoded");
    assert_eq!(codec::encode_payload(&again).expect("twice"), written);
}

/// The decoder called `name`, once.
#[allow(dead_code, reason = "each fuzz target uses this, the test goes through ALL")]
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, decoder) = ALL.iter().find(|(own, _)| *own == name).expect("a decoder's name");
    decoder(bytes);
}
