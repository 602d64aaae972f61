//! HUP: what the operator says is read again. The pool reads it by itself; the routes are the web server's part.

use super::listen::Place;
use super::plan::{Plan, Unplanned};
use super::router::Router;
use crate::admin_http;
use crate::cli::{Cli, Serve, Verb};
use clap::Parser;
use hatchery_pool_client::{CallError, PoolConfig, Refusal};
use hatchery_protocol::config::Source;
use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The routes of this moment.
#[derive(Debug)]
pub(crate) struct Routes(RwLock<Arc<Router>>);

impl Routes {
    pub(crate) fn new(router: Router) -> Self {
        Self(RwLock::new(Arc::new(router)))
    }

    pub(crate) fn now(&self) -> Arc<Router> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }
}

/// How this process was told what to serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Places of inherited sockets, besides those that options name.
    pub(crate) unsaid: Vec<String>,
}

impl Told {
    /// What that comes to now.
    ///
    /// # Errors
    /// [`Unplanned`]
    pub(crate) fn plan(&self, mut options: Serve, admin: Option<crate::cli::AdminAt>) -> Result<Plan, Unplanned> {
        let alone = options.config.is_none() && !self.unsaid.is_empty();
        if alone {
            options.said.pool.listen.get_or_insert_default().extend(self.unsaid.iter().cloned());
        }
        let mut plan = Plan::new(options, admin)?;
        if let (true, Some(source)) = (alone, &mut plan.config.source) {
            // It depends on who can connect, and whoever reads this again does not have the sockets.
            say_environment(source, plan.config.defaults.environment.as_deref());
        }
        Ok(plan)
    }

    /// The same once more, from the same words.
    fn plan_again(&self) -> Result<Plan, Unplanned> {
        let cli = Cli::try_parse().map_err(|error| error.to_string())?;
        match cli.verb {
            Verb::Serve(options) => self.plan(*options, cli.admin),
            _ => Err(Unplanned::Sentence("this process was started with another verb".to_owned())),
        }
    }
}

fn say_environment(source: &mut Source, environment: Option<&str>) {
    const VARIABLE: &[u8] = b"HATCHERY_ENVIRONMENT";
    source.env.retain(|(name, _)| name != VARIABLE);
    source.env.extend(environment.map(|environment| (VARIABLE.to_vec(), environment.as_bytes().to_vec())));
}

/// What a pool is asked.
pub(crate) trait Reloads {
    /// Reads the configuration again; `next` is what a pool after this one is to be started with.
    async fn reload(&self, next: Option<PoolConfig>) -> Result<(), CallError>;
}

/// What holds now of what was said.
#[derive(Debug)]
pub(crate) struct Holding {
    told: Told,
    places: RefCell<Vec<Place>>,
    admin_http: Option<admin_http::Wanted>,
    drain_timeout: RefCell<Duration>,
    /// In words.
    what: RefCell<String>,
}

impl Holding {
    pub(crate) fn new(
        told: Told,
        places: Vec<Place>,
        admin_http: Option<admin_http::Wanted>,
        drain_timeout: Duration,
        what: String,
    ) -> Self {
        let (places, drain_timeout) = (RefCell::new(places), RefCell::new(drain_timeout));
        Self { told, places, admin_http, drain_timeout, what: RefCell::new(what) }
    }

    /// What is served.
    pub(crate) fn what(&self) -> String {
        self.what.borrow().clone()
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        *self.drain_timeout.borrow()
    }

    /// Reads all again. What has mistakes changes nothing. Whether it holds now.
    pub(crate) async fn reload(&self, routes: &Routes, pool: &impl Reloads) -> bool {
        let plan = match tokio::task::block_in_place(|| self.read()) {
            Ok(plan) => plan,
            Err(problem) => {
                say(&problem);
                return false;
            }
        };
        let next = plan.as_ref().map(|plan| plan.config.clone());
        match pool.reload(next).await {
            Ok(()) => {}
            Err(CallError::Refused(Refusal::Invalid(problem))) => {
                say(&problem);
                return false;
            }
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
                return false;
            }
        }
        if let Some(plan) = plan {
            self.take_over(plan, routes);
        }
        true
    }

    /// `None`: this process may not read it, but the pool may.
    fn read(&self) -> Result<Option<Plan>, String> {
        match self.told.plan_again() {
            Ok(plan) => Ok(Some(plan)),
            Err(problem) if is_out_of_reach() => {
                tracing::warn!(
                    "the web server may not read its configuration as the user it runs as by now, so hosts, paths and \
                     which applications there are stay as they were: {problem}; the pool reads its part of it"
                );
                Ok(None)
            }
            Err(problem) => Err(problem.to_string()),
        }
    }

    fn take_over(&self, plan: Plan, routes: &Routes) {
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        let places = self.places.replace(plan.places.clone());
        if places != plan.places {
            let list = |places: &[Place]| places.iter().map(Place::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "listen is {} now, which needs a new start: the server still listens at {}",
                list(&plan.places),
                list(&places)
            );
            *self.places.borrow_mut() = places;
        }
        if plan.admin_http != self.admin_http {
            tracing::warn!("admin_http, its actions or its hosts have changed, which needs a new start");
        }
        *self.drain_timeout.borrow_mut() = plan.drain_timeout;
        routes.replace(plan.router);
        tracing::info!("the configuration was read again; serving {}", plan.what);
        *self.what.borrow_mut() = plan.what;
    }
}

/// Whether the operator's file can't be read for want of rights.
fn is_out_of_reach() -> bool {
    let config = match Cli::try_parse().map(|cli| cli.verb) {
        Ok(Verb::Serve(options)) => options.config,
        _ => None,
    };
    config.is_some_and(|path| File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied))
}

/// A line of the log for each of its lines.
fn say(problem: &str) {
    for line in problem.lines() {
        tracing::error!("{line}");
    }
    tracing::error!("the configuration has mistakes, and stays as it was");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Serve {
        match Cli::try_parse_from(["hatchery", "serve"].iter().chain(arguments)).unwrap().verb {
            Verb::Serve(options) => *options,
            other => unreachable!("serve was said, not {other:?}"),
        }
    }

    #[test]
    fn where_an_inherited_socket_lets_others_in_it_is_production_for_the_pool_too() {
        let environment = |unsaid: &[&str], arguments: &[&str]| {
            let told = Told { unsaid: unsaid.iter().map(|place| (*place).to_owned()).collect() };
            let config = told.plan(serve(arguments), None).unwrap().config;
            let source = config.source.unwrap().env;
            let told = source.into_iter().find(|(name, _)| name == b"HATCHERY_ENVIRONMENT");
            (config.defaults.environment.unwrap(), told.map(|(_, value)| String::from_utf8(value).unwrap()))
        };
        assert_eq!(environment(&[], &[]), ("development".into(), None));
        assert_eq!(environment(&["0.0.0.0:80"], &[]), ("production".into(), Some("production".into())));
        assert_eq!(environment(&["127.0.0.1:80"], &[]), ("development".into(), Some("development".into())));
        assert_eq!(environment(&["0.0.0.0:80"], &["-e", "staging"]), ("staging".into(), Some("staging".into())));
    }

    #[test]
    fn a_request_keeps_the_routes_that_it_began_with() {
        let routes = Routes::new(Router::default());
        let before = routes.now();
        routes.replace(Router::default());
        assert!(!Arc::ptr_eq(&before, &routes.now()));
    }
}
