//! Looking for the listener that a worker makes itself.

use crate::keeper::{Keeper, Worker, kill, read_line, reap, skip};
use crate::worker;
use hatchery_protocol::link::{FromSpawner, Listen, Place, ToSpawner};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

fn start(keeper: &mut Keeper, listen: Listen, prefix: &[&str], what: &str) -> Worker {
    let mut plan = worker::plan(keeper, prefix, what);
    plan.listen = listen;
    keeper.spawn(&plan)
}

fn ask(keeper: &mut Keeper, worker: &Worker) -> Place {
    let place = worker.place.clone().unwrap();
    keeper.send(&ToSpawner::Find { worker: worker.number, pid: worker.pid, place: place.clone() });
    place
}

/// What comes along with `Found`.
fn found(keeper: &mut Keeper, worker: &Worker) -> Vec<OwnedFd> {
    let expected = ask(keeper, worker);
    let (answer, descriptors) = keeper.receive();
    assert_eq!(answer, FromSpawner::Found { worker: worker.number, place: expected });
    descriptors
}

fn not_found(keeper: &mut Keeper, worker: &Worker) -> SpawnReport {
    ask(keeper, worker);
    match keeper.receive().0 {
        FromSpawner::FindFailed { worker: number, report } if number == worker.number => {
            assert_eq!((report.step, report.root.as_str()), (SpawnStep::Ready, "/apps/test"));
            assert!(!report.remedy.is_empty());
            *report
        }
        other => panic!("{other:?}"),
    }
}

fn end(keeper: &mut Keeper, worker: &Worker) {
    kill(worker.pid);
    reap(worker.pid);
    keeper.send(&ToSpawner::Gone { worker: worker.number });
}

fn port(worker: &Worker) -> u16 {
    let Some(Place::Port(port)) = worker.place else { panic!("{:?}", worker.place) };
    port
}

#[test]
fn a_port_is_found_when_its_worker_listens_there() {
    let mut keeper = Keeper::start();
    for address in ["127.0.0.1:{port}", "0.0.0.0:{port}"] {
        let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_tcp(address));
        assert!(found(&mut keeper, &worker).is_empty());
        TcpStream::connect(("127.0.0.1", port(&worker))).unwrap();
        end(&mut keeper, &worker);
    }
}

#[test]
fn a_port_is_found_when_a_process_of_the_workers_listens_there() {
    let mut keeper = Keeper::start();
    let prefix = ["sh", "-c", "setsid \"$0\" \"$@\" & wait"];
    let worker = start(&mut keeper, Listen::Port, &prefix, &worker::listens_at_tcp("127.0.0.1:{port}"));
    found(&mut keeper, &worker);
    end(&mut keeper, &worker);
}

#[test]
fn a_port_that_somebody_else_took_is_told_with_who() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.listen = Listen::Port;
    let worker = keeper.spawn(&plan);
    let _thief = TcpListener::bind(("127.0.0.1", port(&worker))).unwrap();
    let report = not_found(&mut keeper, &worker);
    let expected = format!("port {} is taken by ", port(&worker));
    assert!(report.problem.starts_with(&expected), "{report:?}");
    let who = format!("(pid {}), which listens on 127.0.0.1:{}", std::process::id(), port(&worker));
    assert!(report.problem.ends_with(&who), "{report:?}");
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_listens_elsewhere_is_told_where() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_tcp("127.0.0.1:0"));
    let address = read_line(&worker.stderr);
    let report = not_found(&mut keeper, &worker);
    assert_eq!(report.problem, format!("it listens on {address} instead of PORT={}", port(&worker)));
    assert!(report.remedy.contains("{port}"), "{report:?}");
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_loopback_does_not_reach_is_told_where_it_listens() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_tcp("127.0.0.2:{port}"));
    let report = not_found(&mut keeper, &worker);
    let port = port(&worker);
    assert_eq!(
        report.problem,
        format!("it listens on 127.0.0.2:{port} only, and the pool connects to 127.0.0.1:{port}")
    );
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_listens_for_ipv6_only_is_told_so() {
    if TcpListener::bind("[::1]:0").is_err() {
        skip("listeners for IPv6: this machine has none");
        return;
    }
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_tcp("[::1]:{port}"));
    let report = not_found(&mut keeper, &worker);
    let at = port(&worker);
    assert_eq!(report.problem, format!("it listens on [::1]:{at} only, and the pool connects to 127.0.0.1:{at}"));
    end(&mut keeper, &worker);

    // All addresses, of which the kernel may be told to take those of IPv4 for it, or not.
    let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_tcp("[::]:{port}"));
    found(&mut keeper, &worker);
    end(&mut keeper, &worker);
    let worker = start(&mut keeper, Listen::Port, &[], &worker::listens_at_ipv6_only("[::]:{port}"));
    let report = not_found(&mut keeper, &worker);
    let at = port(&worker);
    assert_eq!(
        report.problem,
        format!("it listens on [::]:{at} for IPv6 only, and the pool connects to 127.0.0.1:{at}")
    );
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_waits_for_datagrams_takes_no_connections() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Port, &[], &worker::receives_at("127.0.0.1:{port}"));
    let report = not_found(&mut keeper, &worker);
    let expected = format!("it waits for datagrams (UDP) on 127.0.0.1:{}, where no connection arrives", port(&worker));
    assert_eq!(report.problem, expected);
    end(&mut keeper, &worker);
}

#[test]
fn a_socket_of_another_name_is_told_with_both() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Socket, &[], &worker::listens_at_unix("{socket}.0"));
    let report = not_found(&mut keeper, &worker);
    let path = keeper.runtime().join(format!("w-{}/app.sock", worker.number.0)).display().to_string();
    assert_eq!(report.problem, format!("it listens on the socket {path}.0 instead of {path}"));
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_listens_at_a_port_instead_of_its_socket_is_told_where() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Socket, &[], &worker::listens_at_tcp("127.0.0.1:0"));
    let address = read_line(&worker.stderr);
    let report = not_found(&mut keeper, &worker);
    assert!(report.problem.starts_with(&format!("it listens on {address} instead of the socket ")), "{report:?}");
    end(&mut keeper, &worker);
}

#[test]
fn a_socket_is_passed_on_and_leaves_no_name_behind() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Socket, &[], &worker::listens_at_unix("{socket}"));
    let socket = found(&mut keeper, &worker).pop().unwrap();
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let folder = keeper.runtime().join(format!("w-{}", worker.number.0));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    end(&mut keeper, &worker);
    crate::keeper::wait_for("the folder to go", || (!folder.exists()).then_some(()));
}

#[test]
fn a_link_in_the_sockets_place_is_not_followed() {
    let mut keeper = Keeper::start();
    let worker = start(&mut keeper, Listen::Socket, &[], &worker::makes_a_link_at("{socket}"));
    let report = not_found(&mut keeper, &worker);
    assert!(report.problem.ends_with("app.sock is a symbolic link, not a socket"), "{report:?}");
    end(&mut keeper, &worker);
}

#[test]
fn a_worker_that_is_gone_is_not_looked_for() {
    let mut keeper = Keeper::start();
    let mut plan = keeper.plan(&["sleep", "1000"]);
    plan.listen = Listen::Port;
    let worker = keeper.spawn(&plan);
    ask(&mut keeper, &worker);
    end(&mut keeper, &worker);
    // The next answer is to the next question.
    let app = keeper.app(&[("hatchery.toml", "command = 'x'")]);
    keeper.inspect(&app, AppOptions::default()).unwrap();
}

#[test]
fn a_new_spawner_finds_what_its_predecessor_started() {
    let mut first = Keeper::start();
    let mut worker = start(&mut first, Listen::Port, &[], &worker::listens_at_tcp("127.0.0.1:{port}"));
    let mut second = Keeper::start();
    found(&mut second, &worker);
    // Its folder goes too.
    let folder = second.runtime().join(format!("w-{}", worker.number.0));
    std::fs::create_dir(&folder).unwrap();
    worker.place = Some(Place::Path(folder.join("app.sock").as_os_str().as_bytes().to_vec()));
    end(&mut second, &worker);
    crate::keeper::wait_for("the folder to go", || (!folder.exists()).then_some(()));
}
