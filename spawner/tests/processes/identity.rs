//! Whom an app runs as, and what that keeps it from.

use crate::keeper::{Keeper, give, is_root, kill, read_all, read_line, reap, status, user, wait_for};
use crate::worker;
use hatchery_protocol::config::{AppConfig, PoolConfig};
use hatchery_protocol::link::{Identity, LaunchPlan, Listen, Place, ToSpawner};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::report::SpawnReport;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const MANIFEST: (&str, &str) = ("hatchery.toml", "command = 'true'");

/// A privileged keeper whose apps may run as `daemon` too, one of the two users that every machine has.
fn start() -> Option<Keeper> {
    is_root("apps of several users")
        .then(|| Keeper::start_configured(PoolConfig { trust_clients: true, min_uid: 1, ..PoolConfig::default() }))
}

fn app_of(keeper: &Keeper, owner: u32) -> PathBuf {
    let app = keeper.app(&[MANIFEST]);
    give(&app, owner);
    app
}

fn uid(name: &str) -> u32 {
    user(name).uid.as_raw()
}

fn runs_as(keeper: &mut Keeper, app: &Path, options: AppOptions) -> String {
    keeper.inspect(app, options).unwrap().identity.map_or("the pool".into(), |identity| identity.name)
}

fn refused(keeper: &mut Keeper, app: &Path, options: AppOptions) -> SpawnReport {
    let report = keeper.inspect(app, options).unwrap_err();
    assert!(!report.remedy.is_empty(), "{report:?}");
    report
}

fn named(user: &str) -> AppOptions {
    AppOptions { user: Some(user.into()), ..AppOptions::default() }
}

#[test]
fn an_app_runs_as_its_owner() {
    // B92
    let Some(mut keeper) = start() else { return };
    for (owner, name) in [(uid("daemon"), "daemon"), (uid("nobody"), "nobody"), (0, "nobody"), (12345, "nobody")] {
        let app = app_of(&keeper, owner);
        assert_eq!(runs_as(&mut keeper, &app, AppOptions::default()), name, "of user {owner}");
    }
}

#[test]
fn a_single_executable_runs_as_the_owner_of_what_is_named_though_it_be_a_link() {
    // B92
    let Some(mut keeper) = start() else { return };
    let folder = keeper.app(&[("program", "#!/bin/sh\n")]);
    let (program, link) = (folder.join("program"), folder.join("link"));
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    give(&program, uid("nobody"));
    assert_eq!(runs_as(&mut keeper, &program, AppOptions::default()), "nobody");
    symlink("program", &link).unwrap();
    give(&link, uid("daemon"));
    assert_eq!(runs_as(&mut keeper, &link, AppOptions::default()), "daemon");
}

#[test]
fn folder_manifest_and_link_have_one_owner() {
    let Some(mut keeper) = start() else { return };
    let app = app_of(&keeper, uid("daemon"));
    give(&app.join("hatchery.toml"), uid("nobody"));
    let report = refused(&mut keeper, &app, AppOptions::default());
    let app_text = app.display();
    assert_eq!(report.problem, format!("{app_text} belongs to daemon, its hatchery.toml to nobody: chown one of them"));
    assert!(report.remedy.contains(&format!("chown daemon {app_text}/hatchery.toml")), "{report:?}");
    assert!(report.remedy.contains("user = "), "{report:?}");
    // Nor does it help that it can't be read.
    std::fs::set_permissions(app.join("hatchery.toml"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(refused(&mut keeper, &app, AppOptions::default()).problem, report.problem);

    let app = app_of(&keeper, uid("daemon"));
    let link = keeper.base.path().join("link");
    symlink(&app, &link).unwrap();
    assert_eq!(runs_as(&mut keeper, &link, AppOptions::default()), "daemon");
    give(&link, uid("nobody"));
    let report = refused(&mut keeper, &link, AppOptions::default());
    let expected =
        format!("{} belongs to nobody, the folder that it leads to to daemon: chown one of them", link.display());
    assert_eq!(report.problem, expected);
}

#[test]
fn a_manifest_is_not_read_through_a_link() {
    // B80
    let Some(mut keeper) = start() else { return };
    let app = keeper.app(&[]);
    symlink("/etc/shadow", app.join("hatchery.toml")).unwrap();
    give(&app, uid("daemon"));
    let report = refused(&mut keeper, &app, AppOptions::default());
    assert!(report.problem.ends_with("hatchery.toml is a symbolic link, not a regular file"), "{report:?}");
}

#[test]
fn what_is_closed_to_its_user_is_named_with_its_mode() {
    // B90
    let Some(mut keeper) = start() else { return };
    let closed = keeper.base.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let app = app_of(&keeper, uid("daemon"));
    let inside = closed.join("app");
    std::fs::rename(&app, &inside).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let report = refused(&mut keeper, &inside, AppOptions::default());
    assert_eq!(report.problem, format!("runs as daemon, who can't enter {} (0700)", closed.display()));
    assert!(report.remedy.contains(&format!("chmod o+x {}", closed.display())), "{report:?}");

    // It was open when it was looked into.
    let mut plan = plan_as(&keeper, "daemon", "true");
    plan.directory = inside.as_os_str().as_bytes().to_vec();
    let report = keeper.spawn_fails(&plan);
    assert!(report.problem.starts_with(&format!("runs as daemon, who can't enter {} (0700)", closed.display())));

    let app = app_of(&keeper, 0);
    std::fs::set_permissions(app.join("hatchery.toml"), PermissionsExt::from_mode(0o600)).unwrap();
    let report = refused(&mut keeper, &app, AppOptions::default());
    assert_eq!(report.problem, format!("runs as nobody, who can't read {}/hatchery.toml (0600)", app.display()));

    let folder = keeper.app(&[("program", "#!/bin/sh\n")]);
    std::fs::set_permissions(folder.join("program"), PermissionsExt::from_mode(0o700)).unwrap();
    let report = refused(&mut keeper, &folder.join("program"), AppOptions::default());
    assert_eq!(report.problem, format!("runs as nobody, who can't execute {}/program (0700)", folder.display()));
}

#[test]
fn what_is_not_there_is_told_as_the_lowest_user_sees_it() {
    let Some(mut keeper) = start() else { return };
    let closed = keeper.base.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let missing = closed.join("missing");
    let report = refused(&mut keeper, &missing, AppOptions::default());
    assert_eq!(report.problem, format!("{} does not exist", missing.display()));
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let report = refused(&mut keeper, &missing, AppOptions::default());
    assert_eq!(report.problem, format!("runs as nobody, who can't enter {} (0700)", closed.display()));
}

#[test]
fn a_named_user_needs_own_nothing_there() {
    // B91
    let Some(mut keeper) = start() else { return };
    let app = app_of(&keeper, uid("nobody"));
    assert_eq!(runs_as(&mut keeper, &app, named("daemon")), "daemon");
    for name in ["root", "nobody-of-that-name"] {
        assert_eq!(runs_as(&mut keeper, &app, named(name)), "nobody");
    }
    let as_it_is = AppOptions { lower_privilege: Some(false), ..AppOptions::default() };
    assert_eq!(runs_as(&mut keeper, &app, as_it_is), "the pool");
}

#[test]
fn some_users_are_refused() {
    // B94
    if !is_root("apps of several users") {
        return;
    }
    let config = PoolConfig { trust_clients: true, ..PoolConfig::default() };
    let why = |keeper: &mut Keeper, owner: &str| {
        let app = app_of(keeper, uid(owner));
        let problem = refused(keeper, &app, AppOptions::default()).problem;
        problem.replace(&app.display().to_string(), "APP")
    };

    let mut keeper = Keeper::start_configured(config.clone());
    let low = format!("APP would run as daemon, whose id {} is below min_uid (100)", uid("daemon"));
    assert_eq!(why(&mut keeper, "daemon"), low);

    let mut keeper = Keeper::start_configured(PoolConfig { lowest_user: "no-such-user".into(), ..config });
    let nobody_left = "there is nobody to run APP as: lowest_user (no-such-user) does not exist";
    assert_eq!(why(&mut keeper, "root"), nobody_left);

    let mut keeper = Keeper::start_silent(&[], std::process::Stdio::inherit());
    keeper.reserved = vec![uid("nobody")];
    keeper.begin();
    assert_eq!(why(&mut keeper, "root"), "APP would run as nobody, who is the pool itself or its web server");
}

#[test]
fn a_privileged_pool_serves_what_its_operator_said_and_as_the_operator_said() {
    if !is_root("a privileged pool") {
        return;
    }
    let mut keeper = Keeper::start_silent(&[], std::process::Stdio::inherit());
    let (registered, other) = (app_of(&keeper, 0), app_of(&keeper, 0));
    let below = keeper.base.path().join("below");
    std::fs::create_dir(&below).unwrap();
    std::fs::rename(app_of(&keeper, 0), below.join("app")).unwrap();
    let options = AppOptions { nice: Some(3), ..AppOptions::default() };
    let root = registered.as_os_str().as_bytes().to_vec();
    keeper.config = PoolConfig {
        apps: vec![AppConfig { root, name: None, options }],
        apps_under: vec![below.as_os_str().as_bytes().to_vec()],
        ..PoolConfig::default()
    };
    keeper.begin();
    // Whatever the core says.
    let asked = AppOptions {
        lower_privilege: Some(false),
        nice: Some(-20),
        start: Some(Start::Command(vec!["other".into()])),
        ..named("root")
    };
    let plan = keeper.inspect(&registered, asked.clone()).unwrap();
    assert_eq!((plan.identity.unwrap().name.as_str(), plan.limits.nice), ("nobody", Some(3)));
    assert_eq!(plan.program, hatchery_protocol::link::Program::Command(vec![b"true".to_vec()]));
    assert_eq!(runs_as(&mut keeper, &below.join("app"), asked.clone()), "nobody");
    let report = refused(&mut keeper, &other, asked);
    assert_eq!(report.problem, format!("{}: the root is neither registered nor under apps_under", other.display()));
    for word in [&format!("root = \"{}\"", other.display()), "apps_under", "trust_clients"] {
        assert!(report.remedy.contains(word), "{report:?}");
    }
}

#[test]
fn without_privileges_no_other_user_can_be_named() {
    let Some(mut keeper) = Keeper::start_as_nobody() else { return };
    let app = app_of(&keeper, uid("daemon"));
    let report = refused(&mut keeper, &app, named("daemon"));
    let text = app.display();
    assert_eq!(report.problem, format!("{text} is to run as daemon, and the pool, which runs as nobody, is not root"));
    for options in [AppOptions::default(), named("nobody")] {
        assert_eq!(runs_as(&mut keeper, &app, options), "the pool");
    }
}

fn identity(name: &str) -> Identity {
    let user = user(name);
    Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: vec![user.gid.as_raw(), 43210, 43211],
        name: name.into(),
        home: b"/nonexistent".to_vec(),
        shell: b"/bin/false".to_vec(),
    }
}

fn plan_as(keeper: &Keeper, name: &str, script: &str) -> LaunchPlan {
    let mut plan = keeper.plan(&["sh", "-c", script]);
    plan.identity = Some(identity(name));
    plan
}

fn output_as(keeper: &mut Keeper, name: &str, script: &str) -> String {
    let plan = plan_as(keeper, name, script);
    let worker = keeper.spawn(&plan);
    let output = read_all(&worker.stdout);
    reap(worker.pid);
    output
}

#[test]
fn a_worker_is_its_user_in_every_respect() {
    // B95
    let Some(mut keeper) = start() else { return };
    let plan = plan_as(&keeper, "daemon", "echo said by name >/dev/stdout; exec sleep 1000");
    let worker = keeper.spawn(&plan);
    assert_eq!(read_line(&worker.stdout), "said by name");
    let (uid, gid) = (user("daemon").uid, user("daemon").gid);
    assert_eq!(status(worker.pid, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(status(worker.pid, "Gid"), format!("{gid}\t{gid}\t{gid}\t{gid}"));
    assert_eq!(status(worker.pid, "Groups"), format!("{gid} 43210 43211"));
    for field in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(worker.pid, field), 16).unwrap(), 0, "{field}");
    }
    // Its own processes can trace it, as one wants of what one runs.
    assert_eq!(std::fs::metadata(format!("/proc/{}/environ", worker.pid)).unwrap().uid(), uid.as_raw());
    kill(worker.pid);
    reap(worker.pid);

    let output = output_as(&mut keeper, "daemon", "env");
    for line in ["HOME=/nonexistent", "USER=daemon", "LOGNAME=daemon", "SHELL=/bin/false"] {
        assert!(output.lines().any(|other| other == line), "{line} is not in {output}");
    }
}

#[test]
fn a_worker_of_another_user_dies_with_the_keeper_too() {
    let Some(mut keeper) = start() else { return };
    // What says so is private to the process; its own code can ask.
    let script = "exec python3 -c 'import ctypes; n = ctypes.c_int(); \
                  ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)'";
    let output = output_as(&mut keeper, "daemon", script);
    if output.is_empty() {
        crate::keeper::skip("the parent-death signal of a worker: python3 is not installed");
        return;
    }
    assert_eq!(output, "9\n");
}

#[test]
fn a_worker_that_cannot_become_its_user_is_not_started() {
    let Some(mut keeper) = Keeper::start_as_nobody() else { return };
    let plan = plan_as(&keeper, "daemon", "true");
    let report = keeper.spawn_fails(&plan);
    // Before it comes to that, its output can't be given to that user.
    assert!(report.problem.contains("Operation not permitted"), "{report:?}");
}

#[test]
fn apps_of_two_users_reach_nothing_of_each_other() {
    let Some(mut keeper) = start() else { return };
    let mut plan = worker::plan(&keeper, &[], &worker::listens_at_unix("{socket}"));
    plan.listen = Listen::Socket;
    plan.identity = Some(identity("daemon"));
    plan.env = vec![(b"SECRET".to_vec(), b"of daemon".to_vec())];
    let first = keeper.spawn(&plan);
    let Some(Place::Path(path)) = first.place.clone() else { panic!("{:?}", first.place) };
    let socket = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
    wait_for("the socket to be made", || socket.exists().then_some(()));
    let folder = socket.parent().unwrap().metadata().unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o777), (uid("daemon"), 0o700));

    let script = format!(
        "for file in {} /proc/{pid}/environ /proc/{pid}/fd/3 /proc/{pid}/root/etc /proc/{spawner}/environ; do \
         ls -l $file/ || cat $file; done; kill -9 {pid} {spawner}; echo end",
        socket.display(),
        pid = first.pid,
        spawner = keeper.spawner.id(),
    );
    assert_eq!(output_as(&mut keeper, "nobody", &script), "end\n");
    // It was not the script that failed.
    assert!(output_as(&mut keeper, "daemon", &script).contains("SECRET=of daemon"));
    reap(first.pid);

    keeper.send(&ToSpawner::Gone { worker: first.number });
    wait_for("the folder to go", || (!socket.parent().unwrap().exists()).then_some(()));
}

#[test]
fn a_socket_of_a_worker_of_another_user_is_found_and_made_connectable() {
    let Some(mut keeper) = start() else { return };
    let mut plan =
        worker::plan(&keeper, &["sh", "-c", "umask 077; exec \"$0\" \"$@\""], &worker::listens_at_unix("{socket}"));
    plan.listen = Listen::Socket;
    plan.identity = Some(identity("daemon"));
    let worker = keeper.spawn(&plan);
    let place = worker.place.clone().unwrap();
    keeper.send(&ToSpawner::Find { worker: worker.number, pid: worker.pid, place: place.clone() });
    let (answer, mut descriptors) = keeper.receive();
    assert_eq!(answer, hatchery_protocol::link::FromSpawner::Found { worker: worker.number, place });
    let socket = descriptors.pop().unwrap();
    assert_eq!(rustix::fs::fstat(&socket).unwrap().st_mode & 0o777, 0o666);
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_socket_in_a_workers_place_that_is_anothers_is_refused() {
    let Some(mut keeper) = start() else { return };
    let mut plan = plan_as(&keeper, "daemon", "exec sleep 1000");
    plan.program = hatchery_protocol::link::Program::Command(
        ["sh", "-c", "exec sleep 1000", "{socket}"].map(|word| word.as_bytes().to_vec()).into(),
    );
    plan.listen = Listen::Socket;
    let worker = keeper.spawn(&plan);
    let Some(Place::Path(path)) = worker.place.clone() else { panic!("{:?}", worker.place) };
    let _listener = std::os::unix::net::UnixListener::bind(std::ffi::OsStr::from_bytes(&path)).unwrap();
    let place = Place::Path(path);
    keeper.send(&ToSpawner::Find { worker: worker.number, pid: worker.pid, place });
    let (answer, _) = keeper.receive();
    let hatchery_protocol::link::FromSpawner::FindFailed { report, .. } = answer else { panic!("{answer:?}") };
    let expected = format!("belongs to user 0, not to the worker's user {}", uid("daemon"));
    assert!(report.problem.ends_with(&expected), "{report:?}");
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn a_port_of_another_users_worker_is_found_by_a_root_who_may_not_look_into_it() {
    let Some(mut keeper) = Keeper::start_without_ptrace() else { return };
    let mut plan = worker::plan(&keeper, &[], &worker::listens_at_tcp("127.0.0.1:{port}"));
    plan.listen = Listen::Port;
    plan.identity = Some(identity("daemon"));
    let worker = keeper.spawn(&plan);
    let place = worker.place.clone().unwrap();
    keeper.send(&ToSpawner::Find { worker: worker.number, pid: worker.pid, place: place.clone() });
    let found = hatchery_protocol::link::FromSpawner::Found { worker: worker.number, place };
    assert_eq!(keeper.receive().0, found);
    kill(worker.pid);
    reap(worker.pid);
}

#[test]
fn what_looks_into_an_app_as_its_user_cannot_be_traced_by_that_user() {
    let Some(mut keeper) = start() else { return };
    // Long, so that it takes its time.
    let app = keeper.app(&[("hatchery.toml", &format!("command = 'true'\n{}", "# x\n".repeat(15_000)))]);
    give(&app, uid("daemon"));
    let children = format!("/proc/{0}/task/{0}/children", keeper.spawner.id());
    let daemon = uid("daemon").to_string();
    let owner = wait_for("an errand to be caught as its user", || {
        let root = app.as_os_str().as_bytes().to_vec();
        let number = hatchery_protocol::link::AppNumber(crate::keeper::next());
        keeper.send(&ToSpawner::Inspect { app: number, generation: 1, root, options: Box::default() });
        let mut caught = None;
        while !crate::keeper::readable(keeper.link(), std::time::Duration::ZERO) {
            let pid = std::fs::read_to_string(&children).unwrap().trim().to_owned();
            let user = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let owner = std::fs::metadata(format!("/proc/{pid}/environ")).map(|file| file.uid());
            if user.lines().any(|line| line.starts_with("Uid:") && line.contains(&daemon))
                && let Ok(owner) = owner
            {
                caught = Some(owner);
            }
        }
        keeper.receive();
        caught
    });
    // What may be traced belongs to its user.
    assert_eq!(owner, 0);
}
