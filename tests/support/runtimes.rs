//! Real frameworks from their registries: installed once into the build folder, for everybody to use.
//!
//! What can't be had is said loudly and its test skipped; where all tests must run, that is a failure.

use super::apps::is_open_to_all;
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// A virtual environment with these packages (`flask~=3.1`): its folder. `None`: the test is to be skipped.
pub fn python(test: &str, packages: &[&str]) -> Option<PathBuf> {
    told(test, had("python", packages, python_into))
}

/// A folder whose `node_modules` has these packages (`express@5`). `None`: the test is to be skipped.
pub fn node(test: &str, packages: &[&str]) -> Option<PathBuf> {
    told(test, had("node", packages, node_into))
}

/// Whether there is a Ruby with this library, which Debian has as `ruby-LIBRARY`. If not, the test is to be skipped.
pub fn ruby(test: &str, library: &str) -> bool {
    let loaded = for_all("ruby").and_then(|ruby| {
        run(Command::new(ruby).args(["-r", library, "-e", "exit!(true)"]))
            .map_err(|why| format!("Ruby has no {library} (Debian: ruby-{library}): {why}"))
    });
    told(test, loaded).is_some()
}

/// A Python that also those can run who workers run as. `None`: the test is to be skipped.
pub fn plain_python(test: &str) -> Option<PathBuf> {
    told(test, for_all("python3"))
}

/// The first of this name on the `PATH`, or in the usual places, that also other users can run.
pub fn for_all(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(program))
        .filter(|at| at.is_file())
        .collect();
    let usable = |at: &&PathBuf| !nix::unistd::geteuid().is_root() || can_be_run_by_all(at);
    match (found.iter().find(usable), found.first()) {
        (Some(usable), _) => Ok(usable.clone()),
        (None, Some(other)) => Err(format!("{} can't be run by nobody, and there is no other", other.display())),
        (None, None) => Err(format!("{program} is not installed")),
    }
}

fn can_be_run_by_all(program: &Path) -> bool {
    let real = program.canonicalize();
    is_open_to_all(program) && real.is_ok_and(|real| is_open_to_all(&real))
}

fn told<T>(test: &str, had: Result<T, String>) -> Option<T> {
    had.inspect_err(|why| {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "{why}, and CI demands {test}");
        eprintln!("SKIPPED {test}: {why}");
    })
    .ok()
}

/// Installs packages unless they are installed. Each test process tries once, and one process at a time.
fn had(kind: &str, packages: &[&str], install: fn(&Path, &[&str]) -> Result<(), String>) -> Result<PathBuf, String> {
    static TRIED: Mutex<BTreeMap<PathBuf, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name = format!("frameworks-{kind}-{}", packages.join("+").chars().map(plain).collect::<String>());
    let base = base()?;
    let folder = base.join(&name);
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let had = tried.entry(folder.clone()).or_insert_with(|| {
        let lock = File::create(base.join(format!("{name}.lock"))).map_err(|error| format!("{name}.lock: {error}"))?;
        // Held until this is done, or the process has ended.
        let _locked =
            Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| format!("{name}.lock: {error}"))?;
        let complete = folder.join("complete");
        let wanted = packages.join("\n");
        if std::fs::read_to_string(&complete).is_ok_and(|have| have == wanted) {
            return Ok(());
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        install(&folder, packages).map_err(|why| format!("{} can't be installed: {why}", packages.join(" and ")))?;
        run(Command::new("chmod").arg("-R").arg("a+rX").arg(&folder))?;
        std::fs::write(&complete, wanted).map_err(|error| format!("{}: {error}", complete.display()))
    });
    had.clone().map(|()| folder)
}

/// Where everybody can read: the build folder, or where that is behind a closed door, a folder of this user's.
fn base() -> Result<PathBuf, String> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if !nix::unistd::geteuid().is_root() || is_open_to_all(&base.join("any")) {
        return Ok(base.to_path_buf());
    }
    let base = Path::new("/var/tmp/hatchery-frameworks");
    if let Err(error) = std::fs::create_dir(base)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(format!("{}: {error}", base.display()));
    }
    let found = base.symlink_metadata().map_err(|error| format!("{}: {error}", base.display()))?;
    if !found.is_dir() || found.uid() != 0 {
        return Err(format!("{} is not a folder of root's", base.display()));
    }
    std::fs::set_permissions(base, Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", base.display()))?;
    Ok(base.to_path_buf())
}

fn python_into(folder: &Path, packages: &[&str]) -> Result<(), String> {
    let python = for_all("python3")?;
    // Without pip, which Debian has in a package of its own.
    run(Command::new(&python).args(["-m", "venv", "--without-pip"]).arg(folder))?;
    let own = folder.join("bin/python");
    let install = |command: &mut Command| {
        run(command.args(["install", "--quiet", "--disable-pip-version-check", "--no-input"]).args(packages))
    };
    let by_pip = install(Command::new(&python).args(["-m", "pip", "--python"]).arg(&own));
    if !by_pip.as_ref().is_err_and(|why| why.contains("No module named pip")) {
        return by_pip;
    }
    run(Command::new(&own).args(["-m", "ensurepip"]))
        .map_err(|why| format!("neither pip nor ensurepip (Debian: python3-pip, python3-venv): {why}"))?;
    install(Command::new(&own).args(["-m", "pip"]))
}

fn node_into(folder: &Path, packages: &[&str]) -> Result<(), String> {
    for_all("node")?;
    std::fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    std::fs::write(folder.join("package.json"), "{\"private\": true}\n").map_err(|error| error.to_string())?;
    let quiet = ["install", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];
    run(Command::new("npm").args(quiet).args(packages).current_dir(folder))
}

/// Runs a command to its end; if it fails, what it said last.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command.output().map_err(|error| format!("{program}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" | ");
    Err(format!("{program} ended with {status}: {last}"))
}
