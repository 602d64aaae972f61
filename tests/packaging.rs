//! What `packaging/` holds is understood by whom it is for, and does what its comments say.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::apps::{self, NOBODY};
use support::front::{self, Front};
use support::{HATCHERY, processes, runtimes, until_blocking};
use tempfile::TempDir;

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(packaging(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: only root can do this");
    }
    root
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a unit says of a key, line by line.
fn of_unit<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_units_are_what_systemd_takes_without_a_word() {
    if !support::has("systemd-analyze", "the units are verified") {
        return;
    }
    let folder = front::folder();
    let units = ["hatchery.service", "hatchery.socket"].map(|name| {
        // Where it is installed, the command is there.
        let unit = read(&format!("systemd/{name}")).replace("/usr/bin/hatchery", HATCHERY);
        let path = folder.path().join(name);
        std::fs::write(&path, unit).expect("own file");
        path
    });
    let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units));
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}

#[test]
fn the_service_is_started_with_words_that_the_command_knows() {
    let unit = read("systemd/hatchery.service");
    for line in of_unit(&unit, "ExecStart").into_iter().chain(of_unit(&unit, "ExecReload")) {
        let Some(words) = line.strip_prefix("/usr/bin/hatchery ") else { continue };
        let output = run(Command::new(HATCHERY).args(words.split(' ')).arg("--help"));
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    assert_eq!(of_unit(&unit, "Type"), ["notify"]);
    assert_eq!(of_unit(&unit, "KillMode"), ["mixed"]);
    assert_eq!(of_unit(&unit, "Delegate"), ["yes"]);
}

#[test]
fn its_user_and_folders_are_made() {
    let test = "users and folders are made";
    if !support::has("systemd-sysusers", test) || !support::has("systemd-tmpfiles", test) || !is_root(test) {
        return;
    }
    let root = TempDir::new().expect("a folder");
    for (kind, file) in [("sysusers.d", "hatchery.conf"), ("tmpfiles.d", "hatchery.conf")] {
        let folder = root.path().join("usr/lib").join(kind);
        std::fs::create_dir_all(&folder).expect("own folder");
        std::fs::copy(packaging(kind).join(file), folder.join(file)).expect("own file");
    }
    std::fs::create_dir(root.path().join("etc")).expect("own folder");
    let at = format!("--root={}", root.path().display());
    for words in
        [&["systemd-sysusers", &at, "hatchery.conf"][..], &["systemd-tmpfiles", &at, "--create", "hatchery.conf"]]
    {
        let output = run(Command::new(words[0]).args(&words[1..]));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }
    let users = std::fs::read_to_string(root.path().join("etc/passwd")).expect("users");
    assert!(users.lines().any(|user| user.starts_with("hatchery:") && user.ends_with("/nologin")), "{users}");
    for folder in ["run/hatchery", "var/lib/hatchery", "var/log/hatchery"] {
        assert!(root.path().join(folder).is_dir(), "{folder}");
    }
}

#[test]
fn the_rights_that_the_unit_leaves_are_those_that_are_needed() {
    let test = "the unit's capabilities are enough";
    if !support::has("setpriv", test) || !is_root(test) {
        return;
    }
    let unit = read("systemd/hatchery.service");
    let kept = of_unit(&unit, "CapabilityBoundingSet").join(" ").to_lowercase();
    let kept: Vec<String> = kept.split_whitespace().map(|cap| format!("+{}", cap.trim_start_matches("cap_"))).collect();
    assert!(kept.len() > 5, "{kept:?}");
    let app = apps::worker_with("", &[("TEST_THREADS", "1")]);
    let folder = front::folder();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &format!("-all,{}", kept.join(",")), "--", HATCHERY, "serve", "-p", "0"]);
    command.arg(app.root()).args(["--max-memory=1G", "--nice=-1", "--oom-score-adj=100", "--limit-nofile=512"]);
    command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path()).stdin(Stdio::null());
    let front = Front::start(command, folder);
    let worker: i32 = front.get("/pid").ok().trim().parse().expect("a number");
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("a process");
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "{status}");
    assert_eq!(front.get("/daemon").status, 200);
    until_blocking("its memory is known", || {
        front.status()["apps"][0]["workers"][0]["memory_bytes"].as_u64().filter(|bytes| *bytes > 0)
    });
    let root = app.root().to_str().expect("text");
    let restarted = front.say(&["restart", root, "--kill"]);
    assert!(restarted.status.success(), "{}", said(&restarted));
    until_blocking("the old worker is gone", || (!processes::lives(worker)).then_some(()));
    assert_eq!(front.get("/pid").status, 200);
    let pool = front.pool();
    let log = front.log();
    assert!(front.end().success());
    assert!(!log.contains("CAP_") && !log.contains("not permitted"), "{log}");
    assert!(processes::of_pool(&pool).is_empty());
}

#[test]
fn everything_is_installed_where_it_is_looked_for() {
    let built = Path::new(HATCHERY).parent().expect("a folder");
    if let Some(missing) = ["pool-server", "spawner"].iter().find(|name| !built.join(name).is_file()) {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "{missing} is not built, and CI demands the installation");
        eprintln!("SKIPPED everything_is_installed_where_it_is_looked_for: {missing} is not built");
        return;
    }
    let root = TempDir::new().expect("a folder");
    let output = run(Command::new(packaging("install")).arg(built).arg(root.path()));
    assert!(output.status.success(), "{}", said(&output));
    for file in ["usr/bin/hatchery", "usr/libexec/hatchery/pool-server", "usr/libexec/hatchery/spawner"] {
        assert!(root.path().join(file).is_file(), "{file}");
    }
    // The operator's own file stays.
    let file = root.path().join("etc/hatchery/pool.toml");
    std::fs::write(&file, "[pool]\nmax = 3\n").expect("own file");
    assert!(run(Command::new(packaging("install")).arg(built).arg(root.path())).status.success());
    assert_eq!(std::fs::read_to_string(&file).expect("own file"), "[pool]\nmax = 3\n");
    let output = run(&mut Command::new(packaging("install")));
    assert!(output.status.code() == Some(2) && said(&output).contains("DESTDIR"), "{}", said(&output));
}

// --- The container ---------------------------------------------------------------------------------------------------

/// The instructions of a kind, a line each.
fn instructions(kind: &str) -> Vec<String> {
    let file = read("container/Containerfile").replace("\\\n", " ");
    file.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).map(str::to_owned).collect()
}

#[test]
fn what_the_container_is_made_of_is_there_and_its_command_line_is_understood() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copies = instructions("COPY");
    assert!(copies.len() >= 3, "{copies:?}");
    for copy in copies.iter().filter(|copy| !copy.starts_with("--from")) {
        let words: Vec<&str> = copy.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(repository.join(source).exists(), "{source}");
        }
    }
    let words = [instructions("ENTRYPOINT"), instructions("CMD")].concat();
    let words: Vec<Vec<String>> = words.iter().map(|words| serde_json::from_str(words).expect("words")).collect();
    assert_eq!(words[0], ["hatchery"]);
    let environment = instructions("ENV");
    let environment = environment.iter().filter_map(|line| line.split_once('='));
    let mut command = Command::new(HATCHERY);
    assert!(run(command.args(&words[1]).arg("--help").envs(environment)).status.success());
    // As elsewhere, no other place than the usual one is named.
    assert!(instructions("FROM").iter().all(|image| !image.contains('/')), "{:?}", instructions("FROM"));
}

/// A root file system with the command, what it is linked with, and nothing else.
fn bare_root() -> TempDir {
    let root = front::folder();
    for folder in ["usr/bin", "etc", "dev", "proc", "run", "tmp", "srv/app"] {
        std::fs::create_dir_all(root.path().join(folder)).expect("own folder");
    }
    std::fs::write(root.path().join("dev/null"), "").expect("own file");
    let users = "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\nhatchery:x:900:900::/:/\n";
    std::fs::write(root.path().join("etc/passwd"), users).expect("own file");
    std::fs::write(root.path().join("etc/group"), "root:x:0:\nnogroup:x:65534:\nhatchery:x:900:\n").expect("own file");
    let linked = run(Command::new("ldd").arg(HATCHERY));
    let linked = String::from_utf8(linked.stdout).expect("text");
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for file in libraries.chain([Path::new(HATCHERY)]) {
        let place = if file == Path::new(HATCHERY) { Path::new("/usr/bin/hatchery") } else { file };
        let place = root.path().join(place.strip_prefix("/").expect("absolute"));
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("own folder");
        assert!(Command::new("cp").arg("-L").arg(file).arg(place).status().expect("cp").success());
    }
    root
}

#[test]
fn the_command_alone_serves_as_process_1_of_a_root_file_system_of_its_own() {
    let test = "the command serves in a root file system of its own";
    if !["unshare", "ldd", "chroot", "mount"].iter().all(|tool| support::has(tool, test)) || !is_root(test) {
        return;
    }
    let namespaces = ["--pid", "--mount", "--fork", "--kill-child", "--"];
    if !run(Command::new("unshare").args(namespaces).arg("true")).status.success() {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "no namespaces, and CI demands {test}");
        eprintln!("SKIPPED {test}: no namespaces can be made here");
        return;
    }
    let root = bare_root();
    let script = "mount -t proc proc \"$1/proc\" && mount --bind /dev/null \"$1/dev/null\" && cd \"$1/srv/app\" && \
                  exec chroot \"$1\" /usr/bin/hatchery serve -p 0";
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-ec", script, "sh"]).arg(root.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").expect("a path"));
    let mut front = Front::start(command, front::folder());
    assert!(front.first.contains("the demo app"), "{}", front.first);
    assert!(front.line().contains("hatchery (user 900)"), "web server and pool become the image's user");
    assert_eq!(front.get("/").status, 200);
    let first = processes::children(front.pid()).pop().expect("process 1");
    processes::kill(first, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(front.ended().code(), Some(0));
}

// --- The operator's file ---------------------------------------------------------------------------------------------

const VALIDATE: &str = "
import json, sys, tomllib
import jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for path in sys.argv[2:]:
    with open(path, 'rb') as file:
        print('ok' if validator.is_valid(tomllib.load(file)) else 'refused')
";

/// Files, and whether the schema takes them.
const FILES: [(&str, bool); 24] = [
    ("[pool]\nmax = 3\nlisten = [\":80\"]\n[defaults]\nmax_idle = \"1.5h\"\nnice = -5\n", true),
    ("[pool]\nlisten = \"8080\"\nfair_wait = 0.5\n", true),
    ("[defaults]\nmax_memory = \"512 MiB\"\ndump_signal = \"SIGQUIT\"\numask = 0o22\nenv = { A = \"b\" }\n", true),
    ("[defaults]\numask = \"0o22\"\nmax_idle = \"never\"\nmax_memory = 4096\n", true),
    ("[pol]\nmax = 3\n", false),
    ("[pool]\nmaxx = 3\n", false),
    ("[pool]\nmax = \"3\"\n", false),
    ("[pool]\nmax = -3\n", false),
    ("[pool]\nmax = 4294967296\n", false),
    ("[pool]\nmax = 3.5\n", false),
    ("[pool]\nmax_idle = \"5m\"\n", false),
    ("[pool]\nlisten = [8080]\n", false),
    ("[pool]\ntrust_clients = \"yes\"\n", false),
    ("[pool]\nfair_wait = \"soon\"\n", false),
    ("[pool]\nfair_wait = -1\n", false),
    ("[defaults]\nmax_memory = \"512Q\"\n", false),
    ("[defaults]\nmax_memory = 1.5\n", false),
    ("[defaults]\nmax_memory = true\n", false),
    ("[defaults]\ndump_signal = \"KILL\"\n", false),
    ("[defaults]\numask = \"089\"\n", false),
    ("[defaults]\nenv = { A = 1 }\n", false),
    ("[defaults]\nwatch = 1\n", false),
    ("[[app]]\nhost = \"a.localhost\"\n", false),
    ("[[app]]\nroot = 5\n", false),
];

#[test]
fn the_schema_takes_what_is_right_and_refuses_nothing_that_the_check_takes() {
    let Some(venv) = runtimes::python("a validator of JSON schemas", &["jsonschema~=4.0"]) else { return };
    let folder = TempDir::new().expect("a folder");
    let schema = folder.path().join("schema.json");
    let printed = run(Command::new(HATCHERY).args(["config", "schema"]));
    assert!(printed.status.success());
    std::fs::write(&schema, &printed.stdout).expect("own file");
    let files: Vec<PathBuf> =
        FILES.iter().enumerate().map(|(nth, _)| folder.path().join(format!("{nth}.toml"))).collect();
    for (path, (text, _)) in files.iter().zip(FILES) {
        std::fs::write(path, text).expect("own file");
    }
    let mut command = Command::new(venv.join("bin/python3"));
    command.args(["-c", VALIDATE]).arg(&schema).arg(packaging("pool.toml")).args(&files);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", said(&output));
    let answers = String::from_utf8(output.stdout).expect("text");
    let mut answers = answers.lines().map(|answer| answer == "ok");
    assert_eq!(answers.next(), Some(true), "packaging/pool.toml");
    for ((text, right), (path, taken)) in FILES.iter().zip(files.iter().zip(answers)) {
        assert_eq!(taken, *right, "{text}");
        let checked = run(Command::new(HATCHERY).args(["config", "check"]).arg(path));
        assert_eq!(checked.status.success(), *right, "{text}: {}", said(&checked));
    }
}

#[test]
fn the_file_that_is_installed_has_no_mistake() {
    let checked = run(Command::new(HATCHERY).args(["config", "check"]).arg(packaging("pool.toml")));
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn a_mistake_is_told_with_file_line_column_and_what_was_probably_meant() {
    let folder = front::folder();
    let path = folder.path().join("pool.toml");
    for (text, line) in [
        ("[pool]\nmaxx = 3\n", "pool.toml:2:1: unknown key `maxx`; did you mean `max`?"),
        ("[pool]\n  max-starting = 3\n", "pool.toml:2:3: unknown key `max-starting`; did you mean `max_starting`?"),
        ("[defaults]\nmax_idel = 3\n", "pool.toml:2:1: unknown key `max_idel`; did you mean `max_idle`?"),
        ("[[app]]\nrot = \"/\"\n", "pool.toml:2:1: unknown key `rot`; did you mean `root`?"),
        ("[defualts]\n", "pool.toml:1:2: unknown key `defualts`; did you mean `defaults`?"),
        ("[pool]\nmax_idle = 3\n", "pool.toml:2:1: `max_idle` belongs into [defaults] or an [[app]], not into [pool]"),
        ("[defaults]\nmax_idle = \"5x\"\n", "pool.toml:2:12: `max_idle`: `5x` is no length of time"),
        ("[pool]\nmax = true\n", "pool.toml:2:7: `max` must be a whole number, such as 6, and is true or false"),
        ("[pool\n", "pool.toml:1:6: "),
    ] {
        std::fs::write(&path, text).expect("own file");
        let checked = run(Command::new(HATCHERY).current_dir(folder.path()).args(["config", "check", "pool.toml"]));
        assert_eq!(checked.status.code(), Some(1), "{text}");
        assert!(said(&checked).lines().any(|found| found.starts_with(line)), "{text}: {}", said(&checked));
    }
}
