//! What the options of `serve`, the environment and the operator's file come to.

mod how;

use super::listen::Place;
use super::router::{Route, Router};
use crate::admin_http;
use crate::cli::{AdminAt, Serve};
use crate::config::file::OperatorsFile;
use crate::config::mistake::Problems;
use crate::config::settings::{self, check_app, check_pool, home, nothing_at};
use crate::config::source;
use crate::config::tenants;
use hatchery_pool_client::{Admin, AppConfig, AppOptions, PoolConfig, Start};
use hatchery_protocol::root::normalised;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The demo app has no folder: it is in our own executable.
const DEMO_ROOT: &str = "/";
const DEMO_NAME: &str = "demo";
/// More applications than this are counted in the first line, not listed.
const LISTED: usize = 5;
/// The environment in which the browser is shown why an app could not be started.
const DEVELOPMENT: &str = "development";

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) places: Vec<Place>,
    /// Somebody named them.
    pub(crate) places_said: bool,
    pub(crate) router: Router,
    pub(crate) config: PoolConfig,
    /// Metrics, health and the live page; `None`: nowhere.
    pub(crate) admin_http: Option<admin_http::Wanted>,
    pub(crate) drain_timeout: Duration,
    /// What is served, for the first line.
    pub(crate) what: String,
    /// What the operator should know, and may have meant.
    pub(crate) warnings: Vec<String>,
}

/// What can't be served, and why.
#[derive(Debug)]
pub(crate) enum Unplanned {
    /// A line for each mistake.
    File(Problems),
    Sentence(String),
}

impl From<String> for Unplanned {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

impl fmt::Display for Unplanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problems) => problems.fmt(f),
            Self::Sentence(sentence) => f.write_str(sentence),
        }
    }
}

impl Plan {
    /// # Errors
    /// [`Unplanned`]
    pub(crate) fn new(mut options: Serve, admin: Option<AdminAt>) -> Result<Self, Unplanned> {
        let here = std::env::current_dir().map_err(|error| format!("the current folder can't be read: {error}"))?;
        let file = options.config.as_deref().map(OperatorsFile::read).transpose().map_err(Unplanned::File)?;
        let with_file = file.is_some();
        let file = file.unwrap_or_default();
        let mut places = places(&options, &file)?;
        let places_said = !places.is_empty();
        if !places_said {
            places.push(Place::default());
        }
        let mut apps = Apps::of(&options, &file, &here)?;

        let pool = std::mem::take(&mut options.said.pool).keys_over(&file.pool);
        let env = std::mem::take(&mut options.env);
        let mut defaults = AppOptions { env, ..std::mem::take(&mut options.said.defaults) }.over(&file.defaults);
        let near = !with_file && places.iter().all(Place::is_near);
        let environment = || if near { DEVELOPMENT } else { "production" }.to_owned();
        defaults.environment.get_or_insert_with(environment);
        // Who writes a file says in it what may happen to files without being asked.
        if !with_file {
            defaults.staged_update.get_or_insert(true);
        }
        check_pool(&pool)?;
        check_app(&defaults)?;
        for app in &mut apps.registered {
            let merged = app.options.clone().over(&defaults);
            check_app(&merged).map_err(|why| format!("{}: {why}", String::from_utf8_lossy(&app.root)))?;
            let development = merged.environment.as_deref() == Some(DEVELOPMENT);
            let own = |route: &&mut Route| route.root.as_os_str().as_bytes() == app.root;
            apps.routes.iter_mut().filter(own).for_each(|route| route.development = development);
            if app.options.start == Some(Start::DemoApp) {
                // It could do more, but it is there to show a pool at work.
                app.options.concurrency = defaults.concurrency.or(Some(1));
                // It has no files of its own: its root is the whole file system.
                (app.options.watch, app.options.staged_update) = (Some(false), Some(false));
            }
        }
        // The tenant of the defaults says whom all others run as; of each application, its own.
        let said = defaults.clone();
        tenants::settle(&mut defaults, &said, &file.tenants).map_err(|why| format!("tenant: {why}"))?;
        for app in &mut apps.registered {
            let named = |why| format!("{}: {why}", String::from_utf8_lossy(&app.root));
            tenants::settle(&mut app.options, &said, &file.tenants).map_err(named)?;
        }
        let admin_http = admin_http::Wanted::of(&pool)?;
        apps.warnings.extend(admin_http.as_ref().and_then(admin_http::Wanted::warning));
        let mut config = settings::pool_config(pool, defaults, file.tenants, apps.registered)?;
        config.apps_under.extend(apps.folder.map(|folder| folder.as_os_str().as_bytes().to_vec()));
        match admin {
            None => {}
            Some(AdminAt::None) => config.admin = Admin::None,
            Some(AdminAt::Path(path)) => config.admin = Admin::At(path),
        }
        config.source = Some(source::own(&here, options.config.as_deref()));
        let router = Router::new(apps.routes)?;
        let drain_timeout = config.drain_timeout;
        let Apps { what, warnings, .. } = apps;
        Ok(Self { places, places_said, router, config, admin_http, drain_timeout, what, warnings })
    }
}

/// Said by options and environment, else by the file; perhaps nowhere.
fn places(options: &Serve, file: &OperatorsFile) -> Result<Vec<Place>, String> {
    let listen = match (&options.said.pool.listen, options.port) {
        (None, None) => &file.pool.listen,
        (said, _) => said,
    };
    let mut places = listen.iter().flatten().map(|text| text.parse()).collect::<Result<Vec<Place>, _>>()?;
    places.extend(options.port.map(Place::loopback));
    Ok(places)
}

/// What is served where.
#[derive(Debug, Default)]
struct Apps {
    routes: Vec<Route>,
    /// Each once, however many routes it has.
    registered: Vec<AppConfig>,
    /// All of its subfolders are served.
    folder: Option<PathBuf>,
    what: String,
    warnings: Vec<String>,
}

impl Apps {
    fn of(options: &Serve, file: &OperatorsFile, here: &Path) -> Result<Self, String> {
        let mut apps = Self::default();
        for app in &file.apps {
            apps.add(app.host.clone(), app.prefix.clone(), app.root.clone(), app.name.clone(), app.options.clone());
        }
        for text in &options.apps {
            let (host, prefix, root) = Route::parse(text)?;
            apps.add_plain(host, prefix, existing(here, &home(root))?);
        }
        if let Some(folder) = &options.apps_in {
            apps.add_folder(normalised(here, folder))?;
        }
        let given = match &options.root {
            Some(root) => Some(existing(here, root)?),
            None if !apps.routes.is_empty() || apps.folder.is_some() => None,
            None => match &options.config {
                // Who writes a file means the applications in it.
                Some(file) => {
                    return Err(format!(
                        "{} has no [[app]], and no application was named: say which to serve, such as with --app",
                        file.display()
                    ));
                }
                None => Some(normalised(here, here)).filter(|root| how::is_servable_unasked(root)),
            },
        };
        match given {
            Some(root) => apps.add_plain(None, String::new(), root),
            None if apps.routes.is_empty() && apps.folder.is_none() => {
                let demo = AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() };
                apps.add(None, String::new(), DEMO_ROOT.into(), Some(DEMO_NAME.to_owned()), demo);
                apps.what = "the demo app (nothing in the current folder says how it is started)".to_owned();
                return Ok(apps);
            }
            None => {}
        }
        apps.what = apps.shown();
        Ok(apps)
    }

    fn add_plain(&mut self, host: Option<String>, prefix: String, root: PathBuf) {
        self.add(host, prefix, root, None, AppOptions::default());
    }

    fn add(&mut self, host: Option<String>, prefix: String, root: PathBuf, name: Option<String>, options: AppOptions) {
        let bytes = root.as_os_str().as_bytes().to_vec();
        if !self.registered.iter().any(|app| app.root == bytes) {
            self.registered.push(AppConfig { root: bytes, name, options });
        }
        self.routes.push(Route { host, prefix, root: Arc::new(root), development: false });
    }

    /// Each subfolder at `NAME.localhost`.
    fn add_folder(&mut self, folder: PathBuf) -> Result<(), String> {
        let shown = folder.display();
        let unread =
            |error: std::io::Error| format!("{shown} can't be read, so its applications are not known: {error}");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            // A link to a folder is one.
            if entry.path().is_dir() {
                names.push(entry.file_name());
            }
        }
        names.sort();
        for name in &names {
            match name.to_str().filter(|name| is_label(name)) {
                Some(label) => {
                    let (root, host) = (folder.join(name), format!("{}.localhost", label.to_ascii_lowercase()));
                    if how::is_servable(&root) {
                        self.add_plain(Some(host), String::new(), root);
                    } else {
                        self.warnings.push(format!("{} is not served: {}", root.display(), how::nothing(&root)));
                    }
                }
                None if name.as_encoded_bytes().starts_with(b".") => {}
                None => self.warnings.push(format!(
                    "{} is not served: its name can't be a host's; rename it, or serve it with --app",
                    folder.join(name).display()
                )),
            }
        }
        if names.is_empty() {
            return Err(format!("{shown} has no subfolder; each application is one"));
        }
        if self.routes.is_empty() {
            return Err(format!("{shown} has no subfolder that can be served: {}", self.warnings.join("; ")));
        }
        self.folder = Some(folder);
        Ok(())
    }

    fn shown(&self) -> String {
        match self.routes.as_slice() {
            [only] if only.host.is_none() => format!("{}{}", only.root.display(), how::shown(&only.root)),
            several if several.len() > LISTED => format!("{} applications", self.registered.len()),
            several => {
                let list = several.iter().map(|r| format!("{} at {}", r.root.display(), r.place()));
                list.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Letters, digits and dashes, as one part of a host's name.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner)
}

/// # Errors
/// There is nothing at this path.
fn existing(here: &Path, root: &Path) -> Result<PathBuf, String> {
    let root = normalised(here, root);
    if nothing_at(&root) {
        return Err(format!(
            "{} does not exist; name an application's folder, or none for the demo app",
            root.display()
        ));
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn plan(arguments: &[&str]) -> Result<Plan, Unplanned> {
        let line = ["hatchery", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().verb {
            Verb::Serve(options) => Plan::new(*options, None),
            _ => unreachable!("serve was said"),
        }
    }

    #[test]
    fn a_root_that_does_not_exist_is_said_at_once() {
        assert!(plan(&["/nowhere/at/all"]).unwrap_err().to_string().starts_with("/nowhere/at/all does not exist"));
        assert!(plan(&["--app", "=/nowhere"]).unwrap_err().to_string().starts_with("/nowhere does not exist"));
    }

    #[test]
    fn it_is_development_while_only_this_machine_is_listened_to() {
        for (arguments, development) in [
            (vec![], true),
            (vec!["--listen", "unix:/tmp/s"], true),
            (vec!["--listen", ":0"], false),
            (vec!["--listen", ":0", "-e", "development"], true),
            (vec!["-e", "staging"], false),
        ] {
            let plan = plan(&arguments).unwrap();
            assert_eq!(plan.router.find(None, "/").unwrap().development, development, "{arguments:?}");
        }
    }

    #[test]
    fn updates_are_taken_without_a_file_unless_that_is_turned_off_and_the_demo_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let (root, file) = (folder.path().to_str().unwrap(), folder.path().join("pool.toml"));
        std::fs::write(&file, format!("[[app]]\nroot = {root:?}\n")).unwrap();
        let taken = |arguments: &[&str]| plan(arguments).unwrap().config.defaults.staged_update;
        assert_eq!(taken(&[root]), Some(true));
        assert_eq!(taken(&[root, "--staged-update=false"]), Some(false));
        assert_eq!(taken(&["--config", file.to_str().unwrap()]), None);
        let demo = plan(&["--watch"]).unwrap().config.apps.remove(0).options;
        assert_eq!((demo.watch, demo.staged_update), (Some(false), Some(false)));
    }

    #[test]
    fn an_app_at_two_places_is_registered_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let plan = plan(&["--app", &format!("a.localhost={root}"), "--app", &format!("/b={root}/.")]).unwrap();
        assert!(plan.router.find(Some("a.localhost"), "/").is_some());
        assert!(plan.router.find(None, "/b").is_some());
        assert_eq!(plan.config.apps.len(), 1);
        assert!(plan.config.apps[0].options.start.is_none());
    }

    #[test]
    fn without_an_app_the_demo_is_served() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.config.apps[0].options.start, Some(Start::DemoApp));
        assert_eq!(plan.config.apps[0].name.as_deref(), Some("demo"));
        assert!(plan.what.contains("demo app"));
    }
}
