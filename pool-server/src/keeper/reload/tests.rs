//! What is executed is a shell here.

use super::*;
use hatchery_protocol::config::{AdminAccess, LogConfig};
use std::cell::Cell;
use std::thread;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

fn read(script: &str) -> Result<PoolConfig, String> {
    finish(Reading::start(shell(script), &[]).unwrap())
}

fn finish(mut reading: Reading) -> Result<PoolConfig, String> {
    loop {
        match reading.turn() {
            Some(outcome) => return outcome,
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// A shell's words that print this configuration.
fn printing(config: &PoolConfig, folder: &Path) -> String {
    let file = folder.join("encoded");
    std::fs::write(&file, codec::encode_payload(config).unwrap()).unwrap();
    format!("cat {}", file.display())
}

#[test]
fn what_is_printed_is_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = PoolConfig { max: 77, ..PoolConfig::default() };
    assert_eq!(read(&printing(&config, folder.path())).unwrap(), config);
}

#[test]
fn what_is_wrong_with_it_comes_back_in_its_own_lines() {
    let problem = read("echo nothing; echo 'pool.toml:1: a' >&2; echo 'pool.toml:2: b' >&2; exit 1").unwrap_err();
    assert_eq!(problem, "pool.toml:1: a\npool.toml:2: b");
    let problem = read("exit 3").unwrap_err();
    assert!(problem.contains("exit status 3"), "{problem}");
    let problem = read("kill -9 $$").unwrap_err();
    assert!(problem.contains("signal 9"), "{problem}");
    let problem = read("echo something else").unwrap_err();
    assert!(problem.contains("no configuration of this version"), "{problem}");
    let problem = finish(Reading::start(Command::new("/no/such/program"), &[]).unwrap()).unwrap_err();
    assert!(problem.contains("can't be executed"), "{problem}");
}

#[test]
fn one_that_never_stops_printing_is_ended() {
    let problem = read("exec cat /dev/zero").unwrap_err();
    assert!(problem.contains("longer than 4194304 bytes"), "{problem}");
    let problem = read("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").unwrap_err();
    assert_eq!(problem.len(), LONGEST_PROBLEM);
}

#[test]
fn one_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let mut reading =
        Reading::start(shell(&format!("sleep 1000 & echo $! $$ >{}; wait", pids.display())), &[]).unwrap();
    let written = || std::fs::read_to_string(&pids).ok().filter(|pids| pids.ends_with('\n'));
    let pids = loop {
        match written() {
            Some(pids) => break pids,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    assert!(reading.turn().is_none());
    reading.by = Instant::now();
    let problem = reading.turn().unwrap().unwrap_err();
    assert!(problem.contains("within 10 s"), "{problem}");
    let shell = reading.pid;
    drop(reading);
    while !workers::has_ended(shell) {
        thread::sleep(Duration::from_millis(1));
    }
    workers::reap(shell);
    for pid in pids.split_ascii_whitespace() {
        let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn who_asks_meanwhile_is_answered_by_a_later_look() {
    let folder = tempfile::tempdir().unwrap();
    let script = printing(&PoolConfig::default(), folder.path());
    let begun = Cell::new(0);
    let begin = || {
        begun.set(begun.get() + 1);
        Reading::start(shell(&script), &[]).map_err(|error| error.to_string())
    };
    let mut reloads = Reloads::default();
    assert!(reloads.turn(begin).is_none() && reloads.pid().is_none() && reloads.due().is_none());
    let outcome = |reloads: &mut Reloads| loop {
        match reloads.turn(begin) {
            Some(outcome) => return outcome,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    reloads.ask();
    reloads.ask();
    assert!(reloads.turn(begin).is_none());
    assert!(reloads.pid().is_some());
    reloads.ask();
    let first = outcome(&mut reloads);
    assert_eq!((first.answers, first.config.is_ok(), begun.get()), (2, true, 1));
    let second = outcome(&mut reloads);
    assert_eq!((second.answers, second.config.is_ok(), begun.get()), (1, true, 2));
    assert!(reloads.turn(begin).is_none() && reloads.pid().is_none());
    reloads.ask();
    let refused = reloads.turn(begin_nothing).unwrap();
    assert_eq!(refused.answers, 1);
    assert!(refused.config.unwrap_err().contains("written nowhere"));
}

fn begin_nothing() -> Result<Reading, String> {
    begin(None, "5f")
}

#[test]
fn a_file_that_others_could_write_is_not_read_with_privileges() {
    let folder = tempfile::tempdir().unwrap();
    let script = printing(&PoolConfig::default(), folder.path());
    let file = folder.path().join("pool.toml");
    std::fs::write(&file, "").unwrap();
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&file, writable).unwrap();
    let outcome = finish(Reading::start(shell(&script), &[file.as_os_str().as_bytes().to_vec()]).unwrap());
    if privileged() {
        let problem = outcome.unwrap_err();
        assert!(problem.contains("pool.toml is not read again") && problem.contains("mode 0666"), "{problem}");
    } else {
        // It is their own pool.
        outcome.unwrap();
    }
}

#[test]
fn what_cant_change_live_stays_and_is_named() {
    let present = PoolConfig { pool_user: Some("web".into()), ..PoolConfig::default() };
    let fresh = PoolConfig {
        max: 9,
        pool_user: None,
        log: LogConfig { file: Some("/var/log/other".into()), ..LogConfig::default() },
        min_uid: 500,
        admin_access: AdminAccess { group: Some("web".into()), owners: true, ..AdminAccess::default() },
        ..PoolConfig::default()
    };
    let (merged, kept) = merge(fresh.clone(), &present).unwrap();
    assert_eq!(merged, PoolConfig { max: 9, min_uid: 500, ..present.clone() });
    assert_eq!(kept, ["admin_group", "admin_owners", "log_file", "pool_user"]);
    assert_eq!(merge(present.clone(), &present).unwrap(), (present.clone(), Vec::new()));
    let problem = merge(PoolConfig { max: 0, ..fresh }, &present).unwrap_err();
    assert!(problem.contains("max is 0"), "{problem}");
}
