//! What the options of `serve` come to.

use super::listen::Place;
use super::router::{Route, Router};
use crate::cli::{AdminAt, PoolAdmin, Serve};
use hatchery_pool_client::{AppConfig, AppOptions, PoolConfig, Start};
use hatchery_protocol::config::LogConfig;
use hatchery_protocol::root::normalised;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How an app says how it is started.
const MANIFEST: &str = "hatchery.toml";
/// The demo app has no folder: it is in our own executable.
const DEMO_ROOT: &str = "/";
const DEMO_NAME: &str = "demo";

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) places: Vec<Place>,
    pub(crate) router: Router,
    pub(crate) config: PoolConfig,
    pub(crate) drain_timeout: Duration,
    /// Shows the browser why an app could not be started.
    pub(crate) development: bool,
    /// What is served, for the first line.
    pub(crate) what: String,
}

impl Plan {
    /// # Errors
    /// One sentence: what can't be served, and why.
    pub(crate) fn new(options: Serve, admin: Option<AdminAt>) -> Result<Self, String> {
        let places = places(&options)?;
        let near = places.iter().all(Place::is_near);
        let environment =
            options.environment.clone().unwrap_or_else(|| if near { "development" } else { "production" }.to_owned());
        let here = std::env::current_dir().map_err(|error| format!("the current folder can't be read: {error}"))?;
        let served = served(&options, &here)?;
        let mut apps: Vec<AppConfig> = Vec::new();
        for route in &served.routes {
            let root = route.root.as_os_str().as_bytes().to_vec();
            if !apps.iter().any(|app| app.root == root) {
                apps.push(if served.demo { demo(root, &options) } else { registered(root) });
            }
        }
        let drain_timeout = options.drain_timeout.or_for_ever();
        let config = PoolConfig {
            max: options.max,
            drain_timeout,
            defaults: AppOptions {
                max_per_app: options.max_per_app,
                min: Some(options.min),
                max_idle: Some(options.max_idle.or_zero()),
                concurrency: options.concurrency,
                max_queue: Some(options.max_queue),
                max_queue_wait: Some(options.max_queue_wait.or_zero()),
                drain_timeout: Some(drain_timeout),
                environment: Some(environment.clone()),
                env: options.env,
                ..AppOptions::default()
            },
            apps,
            admin: PoolAdmin::from(admin).0,
            log: LogConfig {
                file: options.log_file.map(|path| normalised(&here, &path)),
                format: options.log_format.into(),
            },
            ..PoolConfig::default()
        };
        let router = Router::new(served.routes)?;
        Ok(Self { places, router, config, drain_timeout, development: environment == "development", what: served.what })
    }
}

fn registered(root: Vec<u8>) -> AppConfig {
    AppConfig { root, name: None, options: AppOptions::default() }
}

fn demo(root: Vec<u8>, options: &Serve) -> AppConfig {
    let options = AppOptions {
        start: Some(Start::DemoApp),
        // It could do more, but it is there to show a pool at work.
        concurrency: options.concurrency.or(Some(1)),
        ..AppOptions::default()
    };
    AppConfig { root, name: Some(DEMO_NAME.to_owned()), options }
}

fn places(options: &Serve) -> Result<Vec<Place>, String> {
    let mut places = options.listen.iter().map(|text| text.parse()).collect::<Result<Vec<Place>, _>>()?;
    places.extend(options.port.map(Place::loopback));
    if places.is_empty() {
        places.push(Place::default());
    }
    Ok(places)
}

struct Served {
    routes: Vec<Route>,
    demo: bool,
    what: String,
}

fn served(options: &Serve, here: &Path) -> Result<Served, String> {
    let mut routes = Vec::new();
    for text in &options.apps {
        let (host, prefix, root) = Route::parse(text)?;
        routes.push(Route { host, prefix, root: Arc::new(existing(here, &home(root))?) });
    }
    let given = match &options.root {
        Some(root) => Some(existing(here, root)?),
        None if routes.is_empty() && here.join(MANIFEST).is_file() => Some(normalised(here, here)),
        None => None,
    };
    let demo = routes.is_empty() && given.is_none();
    let root = given.or_else(|| demo.then(|| DEMO_ROOT.into()));
    routes.extend(root.map(|root| Route { host: None, prefix: String::new(), root: Arc::new(root) }));
    let what = match routes.as_slice() {
        _ if demo => format!("the demo app (the current folder has no {MANIFEST})"),
        [only] => format!("{}{}", only.root.display(), how(&only.root)),
        several => {
            let list: Vec<String> = several.iter().map(|r| format!("{} at {}", r.root.display(), r.place())).collect();
            list.join(", ")
        }
    };
    Ok(Served { routes, demo, what })
}

/// How an app is started, as far as its folder tells at a glance.
fn how(root: &Path) -> &'static str {
    if root.join(MANIFEST).exists() {
        " (as its hatchery.toml says)"
    } else if root.is_file() {
        " (a program)"
    } else {
        ""
    }
}

/// `--app =~/site`: the shell leaves a tilde alone that is not at the start of a word.
fn home(root: &str) -> PathBuf {
    match (root.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => root.into(),
    }
}

/// # Errors
/// There is nothing at this path. What else may be wrong with it, the pool finds out and reports.
fn existing(here: &Path, root: &Path) -> Result<PathBuf, String> {
    let root = normalised(here, root);
    match std::fs::metadata(&root) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(format!("{} does not exist; name an application's folder, or none for the demo app", root.display()))
        }
        _ => Ok(root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let line = ["hatchery", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().verb {
            Verb::Serve(options) => Plan::new(*options, None),
            _ => unreachable!("serve was said"),
        }
    }

    #[test]
    fn a_root_that_does_not_exist_is_said_at_once() {
        assert!(plan(&["/nowhere/at/all"]).unwrap_err().starts_with("/nowhere/at/all does not exist"));
        assert!(plan(&["--app", "=/nowhere"]).unwrap_err().starts_with("/nowhere does not exist"));
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
            assert_eq!(plan(&arguments).unwrap().development, development, "{arguments:?}");
        }
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
