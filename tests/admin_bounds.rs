//! Nothing that is typed into the admin socket, or not typed, stalls the pool or makes it grow: requests are served
//! all the while.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::admin::Line;
use support::front::Front;
use support::{PATIENCE, processes, until_blocking};

/// Connections that are open at once, at most.
const CONNECTIONS: usize = 512;
/// What the core may grow by for all that is done to it here, in bytes.
const GROWTH: u64 = 48 << 20;

fn connect(front: &Front) -> UnixStream {
    let stream = UnixStream::connect(front.admin()).expect("the admin socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// The core's process.
fn core(front: &Front) -> i32 {
    let found = processes::marked("HATCHERY_POOL", &front.pool()).into_iter();
    let mut cores = found.filter(|pid| processes::command_line(*pid).trim_end().ends_with("core"));
    cores.next().expect("a core")
}

fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<u64>().ok()).expect("a number") << 10
}

/// Requests are served, and an operator is heard.
fn lives(front: &Front) {
    let began = Instant::now();
    assert_eq!(front.get("/hello").status, 200);
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
}

#[test]
fn hundreds_of_idle_and_half_typed_connections_cost_nothing_and_one_too_many_is_told_so() {
    let front = Front::demo();
    lives(&front);
    let core = core(&front);
    let before = resident(core);
    let idle: Vec<UnixStream> = (0..CONNECTIONS / 2).map(|_| connect(&front)).collect();
    let mut half: Vec<UnixStream> = (0..CONNECTIONS / 2).map(|_| connect(&front)).collect();
    for stream in &mut half {
        stream.write_all(&[b'x'; 4000]).expect("it is read");
    }
    let mut refused = String::new();
    connect(&front).read_to_string(&mut refused).expect("it is closed");
    assert!(
        refused.starts_with("error: 512 connections are open at this socket") && refused.ends_with('\n'),
        "{refused}"
    );
    lives(&front);
    assert!(resident(core) < before + GROWTH, "{} from {before}", resident(core));
    drop(idle);
    until_blocking("there is room", || Some(()).filter(|()| front.say(&["status"]).status.success()));
    for stream in &mut half {
        stream.write_all(b"\n").expect("it is read");
        let mut first = [0; 6];
        stream.read_exact(&mut first).expect("an answer");
        assert_eq!(&first, b"error:");
    }
}

#[test]
fn garbage_and_lines_without_an_end_are_answered_by_an_error() {
    let front = Front::demo();
    lives(&front);
    // Bytes of every kind, the same each time.
    let mut number = 1_u32;
    let mut garbage = Vec::new();
    for _ in 0..200_000 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        garbage.push((number >> 24) as u8);
        // Not only one line that is too long.
        if number.is_multiple_of(500) {
            garbage.push(b'\n');
        }
    }
    for piece in garbage.chunks(10_000) {
        let mut stream = connect(&front);
        // It may be ended on the way.
        let _ = stream.write_all(piece);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        let read = stream.read_to_end(&mut answers);
        assert!(read.is_ok() || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        for answer in String::from_utf8(answers).expect("text").lines() {
            assert!(answer.starts_with("error: ") || answer == "ok" || answer.starts_with("  "), "{answer:?}");
        }
    }
    for start in ["", "json ", "set ", "events ", "disable demo ", "add /"] {
        let mut line = Line::to(&front);
        line.say(&format!("{start}{}", "x".repeat(5000 - start.len())));
        assert!(line.line().starts_with("error: a line is longer than 4096 bytes"));
    }
    lives(&front);
}

#[test]
fn thousands_of_commands_at_once_are_answered_in_turn_and_others_in_between() {
    const COMMANDS: usize = 5_000;
    let front = Front::demo();
    lives(&front);
    let core = core(&front);
    let before = resident(core);
    let stream = connect(&front);
    let mut writer = stream.try_clone().expect("a descriptor");
    let writing = std::thread::spawn(move || writer.write_all("json status\n".repeat(COMMANDS).as_bytes()));
    // Nobody reads yet: they pile up where they come from.
    lives(&front);
    assert_eq!(Line::to(&front).ask("status").1, "ok");
    let mut line = Line { stream: std::io::BufReader::new(stream) };
    for _ in 0..COMMANDS {
        assert!(line.line().starts_with("{\"ok\":true,"));
    }
    writing.join().expect("a thread").expect("all is read");
    lives(&front);
    assert!(resident(core) < before + GROWTH, "{} from {before}", resident(core));
}

#[test]
fn who_never_reads_is_let_go_and_keeps_nobody_waiting() {
    let front = Front::demo();
    lives(&front);
    let core = core(&front);
    let before = resident(core);
    let mut deaf: Vec<UnixStream> = (0..20).map(|_| connect(&front)).collect();
    for (number, stream) in deaf.iter_mut().enumerate() {
        stream.set_nonblocking(true).expect("a socket");
        let line: &[u8] = if number % 2 == 0 { b"json status\n" } else { b"help\nevents 1000\n" };
        // Until all buffers on the way are full.
        while stream.write(&line.repeat(300)).is_ok() {}
    }
    lives(&front);
    assert_eq!(Line::to(&front).ask("status").1, "ok");
    assert!(resident(core) < before + GROWTH, "{} from {before}", resident(core));
    // The pool's own patience is 30 s.
    let by = Instant::now() + PATIENCE + Duration::from_secs(30);
    for stream in &mut deaf {
        loop {
            match stream.write(b"x") {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                _ => assert!(Instant::now() < by, "it is still let in"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    lives(&front);
}

#[test]
fn a_listener_that_is_too_slow_loses_events_and_is_told_how_many() {
    let front = Front::demo();
    lives(&front);
    let mut slow = Line::to(&front);
    slow.say("events\n");
    let mut busy = Line::to(&front);
    // Each is two events at least. More than the socket and the stream hold together.
    for _ in 0..5_000 {
        busy.say("disable demo because\nenable demo\n");
        assert_eq!((busy.line(), busy.line()), ("ok".into(), "ok".into()));
    }
    let lost = until_blocking("it is told", || Some(slow.line()).filter(|line| line.ends_with(" events lost)")));
    assert!(lost.starts_with("  ("), "{lost}");
    lives(&front);
}
