//! Where the pool-server is.

use crate::error::StartError;
use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that names it.
pub(crate) const VARIABLE: &str = "HATCHERY_POOL_SERVER";

/// The running program, whatever its name is, and whatever has taken its place on disk.
const OURSELVES: &str = "/proc/self/exe";

/// An executable that plays the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// For messages.
    pub(crate) path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has no other role.
    PoolServer,
    /// `hatchery`, told its role by the first argument.
    Hatchery,
    /// The running program, even if another has taken its place on disk meanwhile.
    Ourselves,
}

/// What the search depends on.
#[derive(Debug)]
struct Surroundings {
    variable: Option<PathBuf>,
    program: Option<PathBuf>,
    path: Vec<PathBuf>,
}

impl Executable {
    /// The one that was named, or else the first one found.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, StartError> {
        let surroundings = Surroundings {
            variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            program: env::current_exe().ok(),
            path: env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
        };
        search(named, &surroundings)
    }

    pub(crate) fn command(&self) -> Command {
        match self.kind {
            Kind::PoolServer => Command::new(&self.path),
            Kind::Hatchery => with_role(Command::new(&self.path)),
            Kind::Ourselves => {
                let mut command = with_role(Command::new(OURSELVES));
                command.arg0(&self.path);
                command
            }
        }
    }
}

fn with_role(mut command: Command) -> Command {
    command.arg("pool-server");
    command
}

fn search(named: Option<&Path>, surroundings: &Surroundings) -> Result<Executable, StartError> {
    // What somebody named is not silently replaced by something else.
    if let Some(path) = named.or(surroundings.variable.as_deref()) {
        // A bare name is a file here, not one to be looked for on the PATH.
        let path = std::path::absolute(path)?;
        if path == Path::new(OURSELVES) {
            let shown = surroundings.program.clone().unwrap_or(path);
            return Ok(Executable { path: shown, kind: Kind::Ourselves });
        }
        return if is_executable(&path) { Ok(named_so(&path)) } else { Err(not_found(vec![path])) };
    }
    if let Some(program) = surroundings.program.as_deref().filter(|program| is_hatchery(program)) {
        return Ok(Executable { path: program.into(), kind: Kind::Ourselves });
    }
    let mut tried = Vec::new();
    for place in places(surroundings) {
        if is_executable(&place) {
            return Ok(named_so(&place));
        }
        tried.push(place);
    }
    Err(not_found(tried))
}

fn places(surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(folder) = surroundings.program.as_deref().and_then(Path::parent) {
        // Of the two `hatchery` can do more: it has the demo app.
        places.extend([folder.join("hatchery"), folder.join("pool-server")]);
        // Where cargo puts tests and examples, the executables are one up.
        if let (Some("deps" | "examples"), Some(up)) = (folder.file_name().and_then(OsStr::to_str), folder.parent()) {
            places.extend([up.join("hatchery"), up.join("pool-server")]);
        }
        if let Some(up) = folder.parent() {
            places.push(up.join("libexec/hatchery/pool-server"));
        }
    }
    places.extend(surroundings.path.iter().map(|folder| folder.join("hatchery")));
    places
}

fn not_found(tried: Vec<PathBuf>) -> StartError {
    StartError::NotFound { tried }
}

fn named_so(path: &Path) -> Executable {
    let kind = if is_hatchery(path) { Kind::Hatchery } else { Kind::PoolServer };
    Executable { path: path.into(), kind }
}

fn is_hatchery(path: &Path) -> bool {
    // A replaced program's link says so behind the name.
    path.file_name().is_some_and(|name| name == "hatchery" || name == "hatchery (deleted)")
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn around(folder: &Path) -> Surroundings {
        Surroundings { variable: None, program: Some(folder.join("bin/server")), path: vec![folder.join("path")] }
    }

    #[test]
    fn the_first_place_that_has_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = around(folder.path());
        // From the last place to the first: each one found wins over those before.
        for name in ["path/hatchery", "libexec/hatchery/pool-server", "bin/pool-server", "bin/hatchery"] {
            let path = place(folder.path(), name);
            assert_eq!(search(None, &surroundings).unwrap().path, path);
        }
    }

    #[test]
    fn what_is_named_is_taken_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut surroundings = around(folder.path());
        place(folder.path(), "bin/pool-server");
        let named = place(folder.path(), "elsewhere/hatchery");
        assert_eq!(
            search(Some(&named), &surroundings).unwrap(),
            Executable { path: named.clone(), kind: Kind::Hatchery }
        );
        surroundings.variable = Some(folder.path().join("nothing"));
        assert_eq!(search(Some(&named), &surroundings).unwrap().path, named);
        let error = search(None, &surroundings).unwrap_err().to_string();
        assert!(error.contains("/nothing"), "{error}");
    }

    #[test]
    fn an_error_lists_all_places() {
        let folder = tempfile::tempdir().unwrap();
        let error = search(None, &around(folder.path())).unwrap_err().to_string();
        for place in ["bin/pool-server", "bin/hatchery", "libexec/hatchery/pool-server", "path/hatchery", VARIABLE] {
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn a_program_of_any_name_can_name_itself() {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = around(folder.path());
        let found = search(Some(Path::new(OURSELVES)), &surroundings).unwrap();
        assert_eq!(found, Executable { path: folder.path().join("bin/server"), kind: Kind::Ourselves });
    }

    #[test]
    fn hatchery_itself_runs_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut surroundings = around(folder.path());
        place(folder.path(), "bin/pool-server");
        surroundings.program = Some(folder.path().join("bin/hatchery"));
        assert_eq!(search(None, &surroundings).unwrap().kind, Kind::Ourselves);
    }
}
