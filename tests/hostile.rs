//! Whatever is said on a channel: the offending one is closed with a reason, everybody else is unharmed.

mod support;

use hatchery_pool_client::{Client, GetError, PoolServer};
use hatchery_protocol::channel::{Channel, ReceiveError};
use hatchery_protocol::client::{How, RequestId, SessionId, ToClient, ToPool};
use hatchery_protocol::codec::{self, Hello};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::{memfd, packet};
use rustix::net::SendFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use support::{apps, ask, builder, processes, until};

/// A pool that is started by hand, so that anything can be sent through its door.
struct Door {
    door: Channel<ToDoor, FromDoor>,
    keeper: i32,
}

impl Door {
    fn open() -> Self {
        let (mut door, child) = Self::start();
        let config = PoolConfig { trust_clients: true, ..PoolConfig::default() };
        let memfd = memfd::write(&config).unwrap();
        packet::send(&door, &codec::encode(&ToDoor::Configure).unwrap(), &[memfd.as_fd()], SendFlags::empty()).unwrap();
        drop(child);
        match door.receive().unwrap().0 {
            FromDoor::Opened { pid, .. } => Self { door, keeper: pid },
            FromDoor::Failed(why) => panic!("{why}"),
            FromDoor::ShutDown => panic!("it was told to end"),
        }
    }

    fn start() -> (Channel<ToDoor, FromDoor>, std::process::Child) {
        let (ours, theirs) = packet::pair().unwrap();
        let mut command = Command::new(support::HATCHERY);
        let mut child = command.arg("pool-server").stdin(Stdio::from(theirs)).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "what is executed forks once and is gone");
        (Channel::new(ours), child)
    }

    /// Sends a packet through the door.
    fn send(&self, bytes: &[u8], descriptors: &[&OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        packet::send(&self.door, bytes, &descriptors, SendFlags::empty()).unwrap();
    }

    /// A channel on which nothing was said yet.
    fn channel(&self) -> Channel<ToPool, ToClient> {
        let (ours, theirs) = packet::pair().unwrap();
        self.send(&codec::encode(&ToDoor::Connect).unwrap(), &[&theirs]);
        Channel::new(ours)
    }

    fn client(&self) -> Channel<ToPool, ToClient> {
        let mut channel = self.channel();
        channel.send_hello().unwrap();
        channel.receive_hello().unwrap();
        channel
    }

    /// That the pool serves, over a channel of its own.
    fn serves(&self) {
        let mut channel = self.client();
        channel.send(&ToPool::GetCount { request: RequestId(1) }).unwrap();
        assert!(matches!(channel.receive().unwrap().0, ToClient::Figure { .. }));
    }
}

/// The reason that is given before the channel ends.
fn farewell(mut channel: Channel<ToPool, ToClient>) -> String {
    let mut reason = String::new();
    loop {
        match channel.receive() {
            Ok((ToClient::Goodbye { why }, _)) => reason = why,
            Ok(_) => {}
            Err(ReceiveError::Closed) => return reason,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn bad_bytes_on_a_channel_close_it_with_a_reason_and_nobody_else() {
    let pool = Door::open();
    let (_read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let count = codec::encode(&ToPool::GetCount { request: RequestId(1) }).unwrap();
    let mut trailing = count.clone();
    trailing.extend([0; 8]);
    let mut unknown = count.clone();
    unknown[5] = 200;
    let mut version = count.clone();
    version[2] = 99;
    let cases: [(&str, Vec<u8>, bool); 7] = [
        ("does not speak", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("malformed", trailing, false),
        ("malformed", unknown, false),
        ("wire version 99", version, false),
        ("out of turn", Hello::ours().encode(), false),
        ("descriptors", count.clone(), true),
        ("truncated", vec![0; codec::MAX_PACKET + 10], false),
    ];
    for (reason, bytes, with_descriptor) in cases {
        let channel = pool.client();
        let given: Vec<_> = with_descriptor.then(|| write.as_fd()).into_iter().collect();
        packet::send(&channel, &bytes, &given, SendFlags::empty()).unwrap();
        let said = farewell(channel);
        assert!(said.contains(reason), "{said:?} instead of {reason}");
        pool.serves();
    }
}

#[test]
fn a_channel_that_does_not_greet_properly_is_closed_with_a_reason() {
    let pool = Door::open();
    let channel = pool.channel();
    channel.send(&ToPool::GetCount { request: RequestId(1) }).unwrap();
    let mut channel = channel;
    channel.receive_hello().unwrap();
    assert!(farewell(channel).contains("out of turn"));
    let channel = pool.channel();
    let mut hello = Hello::ours().encode();
    hello[2] = 42;
    packet::send(&channel, &hello, &[], SendFlags::empty()).unwrap();
    let mut channel = channel;
    channel.receive_hello().unwrap();
    assert!(farewell(channel).contains("wire version 42"));
    pool.serves();
}

#[test]
fn a_bad_packet_on_the_door_is_dropped_since_others_share_the_door() {
    let pool = Door::open();
    let (one, two) = packet::pair().unwrap();
    pool.send(b"garbage", &[]);
    pool.send(&codec::encode(&ToDoor::Connect).unwrap(), &[&one, &two]);
    pool.send(&codec::encode(&ToDoor::Configure).unwrap(), &[&one]);
    pool.send(&vec![7; codec::MAX_PACKET + 1], &[&two]);
    pool.serves();
}

#[test]
fn what_is_not_a_socket_behind_a_connect_harms_nobody() {
    let pool = Door::open();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    for descriptor in [&read, &write, &file] {
        pool.send(&codec::encode(&ToDoor::Connect).unwrap(), &[descriptor]);
    }
    pool.serves();
}

#[test]
fn a_first_packet_that_is_no_configuration_is_answered_with_a_sentence() {
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let wrong = memfd::write(&String::from("no configuration at all, but sealed")).unwrap();
    let zero = memfd::write(&PoolConfig { max: 0, ..PoolConfig::default() }).unwrap();
    let configure = codec::encode(&ToDoor::Configure).unwrap();
    let connect = codec::encode(&ToDoor::Connect).unwrap();
    let cases = [
        ("first packet", &connect, &null),
        ("not sealed", &configure, &null),
        ("no good", &configure, &wrong),
        ("max is 0", &configure, &zero),
    ];
    for (reason, packet, descriptor) in cases {
        let (mut door, _) = Door::start();
        packet::send(&door, packet, &[descriptor.as_fd()], SendFlags::empty()).unwrap();
        match door.receive().unwrap().0 {
            FromDoor::Failed(why) => assert!(why.contains(reason), "{why:?} instead of {reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn ids_that_are_not_a_clients_own_do_nothing() {
    let pool = Door::open();
    let app = apps::worker();
    let root = std::os::unix::ffi::OsStrExt::as_bytes(app.root().as_os_str()).to_vec();
    let mut owner = pool.client();
    let get = |request| ToPool::Get {
        request,
        app_root: root.clone(),
        options: Box::<AppOptions>::default(),
        key: None,
        label: None,
    };
    owner.send(&get(RequestId(1))).unwrap();
    let (granted, _socket) = owner.receive().unwrap();
    let ToClient::Session { session, .. } = granted else { panic!("{granted:?}") };
    let mut thief = pool.client();
    for stranger in [session, SessionId(0), SessionId(u64::MAX)] {
        for how in [How::Finished, How::Kept, How::Abandoned] {
            thief.send(&ToPool::Close { session: stranger, how }).unwrap();
        }
        thief.send(&ToPool::Label { session: stranger, text: "mine".into() }).unwrap();
        thief.send(&ToPool::Cancel { request: RequestId(1) }).unwrap();
        thief.send(&ToPool::Reconnect { request: RequestId(5), session: stranger }).unwrap();
        let (refused, _) = thief.receive().unwrap();
        assert!(matches!(refused, ToClient::Refused { request: RequestId(5), .. }), "{refused:?}");
    }
    thief.send(&ToPool::GetActive { request: RequestId(6) }).unwrap();
    let (active, _) = thief.receive().unwrap();
    assert_eq!(active, ToClient::Figure { request: RequestId(6), figure: 1 }, "the session is still its owner's");
}

#[test]
fn a_client_that_never_reads_is_given_up_and_holds_up_nobody() {
    let pool = Door::open();
    let deaf = pool.client();
    for number in 0..100_000 {
        if deaf.send(&ToPool::GetCount { request: RequestId(number) }).is_err() {
            break;
        }
    }
    pool.serves();
    pool.serves();
}

#[test]
fn roots_that_are_not_absolute_and_normalised_are_refused() {
    let pool = Door::open();
    let mut channel = pool.client();
    for (number, root) in ["relative", "", "/a/../b", "/a//b", "/a/", "/a/.", "/a\0b"].into_iter().enumerate() {
        let request = RequestId(number as u64);
        let app_root = root.as_bytes().to_vec();
        channel.send(&ToPool::Get { request, app_root, options: Box::default(), key: None, label: None }).unwrap();
        match channel.receive().unwrap().0 {
            ToClient::Refused { refusal, .. } => assert_eq!(refusal.http_status(), 500, "{root:?}: {refusal}"),
            other => panic!("{root:?}: {other:?}"),
        }
    }
}

/// Every bad root and manifest: one sentence that names the thing, and the pool serves on.
#[tokio::test]
async fn bad_apps_are_refused_with_what_is_wrong_and_what_to_do() {
    let good = apps::worker();
    // The breaker would remember them.
    let defaults = AppOptions { breaker_failures: Some(0), ..AppOptions::default() };
    let server = builder().defaults(defaults).start().unwrap();
    let client = server.connect().await.unwrap();
    let empty = apps::with_manifest("");
    std::fs::remove_file(empty.root().join("hatchery.toml")).unwrap();
    let plain = empty.write("data.txt", "no program");
    let oversized = apps::with_manifest(&"# filler\n".repeat(10_000));
    let cases = [
        (std::path::PathBuf::from("/no/such/place"), "/no does not exist", ""),
        (plain.clone(), "data.txt", ""),
        (empty.root().to_owned(), "", "command ="),
        (oversized.root().to_owned(), "64 KiB", ""),
    ];
    for (root, problem, remedy) in cases {
        refused(&client, &root, problem, remedy).await;
        ask(&client, good.root(), "/pid").await;
    }
    let manifests = [
        ("command = [\"true\"]\nconcurency = 2\n", "concurency", "concurrency"),
        ("command = [\n", "line", ""),
        ("command = [\"true\"]\nmax_idle = 3\n", "max_idle", "pool.toml"),
        ("command = \"\"\n", "command", ""),
        ("command = [\"/no/such/program\"]\n", "/no/such/program", ""),
        ("command = [\"no-such-program\"]\n", "no-such-program", ""),
    ];
    for (manifest, problem, remedy) in manifests {
        let app = apps::with_manifest(manifest);
        refused(&client, app.root(), problem, remedy).await;
    }
    // Prints garbage where HTTP is expected.
    if support::has("python3", "a worker that answers with garbage") {
        let app = apps::with_manifest("command = [\"python3\", \"garbage.py\"]\n");
        app.write(
            "garbage.py",
            "import socket\ns = socket.socket(socket.AF_UNIX, fileno=3)\nwhile True:\n    c, _ = s.accept()\n    c.sendall(b'\\x1b[31mSSH-2.0')\n    c.close()\n",
        );
        refused(&client, app.root(), "not HTTP", "protocol").await;
    }
    ask(&client, good.root(), "/pid").await;
    until("what failed is forgotten", async || (client.status().await.unwrap().apps.len() == 1).then_some(())).await;
}

async fn refused(client: &Client, root: &std::path::Path, problem: &str, remedy: &str) {
    match client.get(root).await {
        Err(GetError::SpawnFailed(report)) => {
            let all = format!("{}\n{}", report.problem, report.remedy);
            assert!(all.contains(problem) && all.contains(remedy), "{}: {report}", root.display());
            assert!(!all.contains('\u{1b}'), "control characters are escaped: {all:?}");
        }
        other => panic!("{}: {other:?}", root.display()),
    }
}

// As root without trust: only what the operator registered.
#[tokio::test]
async fn a_privileged_pool_serves_what_the_operator_named() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED a_privileged_pool_serves_what_the_operator_named: not root");
        return;
    }
    let (stranger, neighbour) = (apps::worker(), apps::worker());
    let server: PoolServer = builder().trust_clients(false).apps_under(neighbour.root()).start().unwrap();
    let client = server.connect().await.unwrap();
    let shop = neighbour.root().join("shop");
    std::fs::create_dir(&shop).unwrap();
    apps::give(&shop, apps::NOBODY);
    std::fs::rename(neighbour.root().join("hatchery.toml"), shop.join("hatchery.toml")).unwrap();
    let error = client.get(stranger.root()).await.unwrap_err();
    assert_eq!(error.http_status(), 403, "{error}");
    assert!(error.to_string().contains("apps_under"), "{error}");
    let wider = AppOptions { env: vec![("LD_PRELOAD".into(), "/tmp/x.so".into())], ..AppOptions::default() };
    let error = client.get_with(&shop, &wider).await.unwrap_err();
    assert_eq!(error.http_status(), 403, "{error}");
    ask(&client, &shop, "/pid").await;
}

#[test]
fn the_pool_goes_when_the_door_is_closed_by_hand() {
    let pool = Door::open();
    pool.serves();
    let keeper = pool.keeper;
    drop(pool);
    support::until_blocking("the keeper is gone", || (!processes::lives(keeper)).then_some(()));
}

#[tokio::test]
async fn a_flood_of_output_blocks_its_author_alone() {
    let flood = apps::script("while :; do echo flooooooooooooooooooooooooooooooooooooooood; done");
    let quick = apps::worker();
    let server = builder().log_file("/dev/null").start().unwrap();
    let client = server.connect().await.unwrap();
    let (other, root) = (client.clone(), flood.root().to_owned());
    let stuck = tokio::spawn(async move { other.get(root).await });
    until("it floods", async || (client.count().await.unwrap() == 1).then_some(())).await;
    for _ in 0..50 {
        ask(&client, quick.root(), "/pid").await;
    }
    stuck.abort();
}
