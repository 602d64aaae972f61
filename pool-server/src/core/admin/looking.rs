//! Looking at the pool.

use super::answer::{Failure, Form, Said, member};
use super::help::{self, HELP};
use super::rights::Scope;
use crate::core::metrics;
use crate::core::shell::{Shell, State};
use crate::core::status;
use crate::show::{self, Listed, Look};
use hatchery_pool::AppId;
use hatchery_protocol::status::{SessionStatus, Status};
use serde::Serialize;
use std::collections::HashSet;

#[derive(Serialize)]
struct Apps {
    apps: Vec<Listed>,
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<SessionStatus>,
}

pub(super) fn help() -> Said {
    let lines = help::lines();
    let commands: Vec<_> =
        HELP.iter().map(|(usage, does)| serde_json::json!({ "command": usage, "does": does.join(" ") })).collect();
    let json = [("help", serde_json::json!(lines)), ("commands", commands.into())];
    Said::new(lines, json.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

pub(super) fn status(shell: &Shell, scope: Scope, app: Option<&str>, form: Form) -> Result<Said, Failure> {
    let state = shell.state();
    let only = app.map(|app| find(&state, scope, app)).transpose()?;
    let mut status = status::status(&state);
    if let Scope::RunAs(uid) = scope {
        keep(&mut status, &roots_of(&state, uid));
        count_again(&mut status);
    }
    if let Some((root, _)) = only {
        keep(&mut status, &HashSet::from([text(&root)]));
    }
    Said::of(form, &status, |status| show::status(status, Look::PLAIN))
}

/// What concerns other apps is left out.
fn keep(status: &mut Status, roots: &HashSet<String>) {
    status.apps.retain(|app| roots.contains(&app.root));
    status.post_mortems.retain(|record| roots.contains(&record.root));
    let tenants: HashSet<&str> = status.apps.iter().filter_map(|app| app.tenant.as_deref()).collect();
    status.tenants.retain(|tenant| tenants.contains(tenant.name.as_str()));
}

/// The figures of these apps alone: what others have is not their owner's to know.
fn count_again(status: &mut Status) {
    let workers = || status.apps.iter().flat_map(|app| &app.workers);
    let total = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (status.count, status.active) =
        (total(workers().count()), total(workers().filter(|worker| worker.sessions > 0).count()));
    status.waiting = status.apps.iter().map(|app| app.waiting).sum();
    status.tenants.clear();
}

pub(super) fn list(shell: &Shell, scope: Scope, form: Form) -> Result<Said, Failure> {
    let state = shell.state();
    let shown = match scope {
        Scope::Every => None,
        Scope::RunAs(uid) => Some(roots_of(&state, uid)),
    };
    let snapshot = state.pool.snapshot(state.now());
    let apps = snapshot.apps.iter().map(|app| Listed {
        name: state.options.name(&app.root),
        root: text(&app.root),
        state: status::app_state(app.state).into(),
        registered: app.registered,
    });
    let apps: Vec<Listed> = apps.filter(|app| shown.as_ref().is_none_or(|shown| shown.contains(&app.root))).collect();
    Said::of(form, &Apps { apps }, |list| show::list(&list.apps, Look::PLAIN))
}

pub(super) fn sessions(shell: &Shell, scope: Scope, app: Option<&str>, form: Form) -> Result<Said, Failure> {
    let state = shell.state();
    let app = app.map(|app| find(&state, scope, app)).transpose()?;
    let sessions = status::sessions(&state, app.map(|(_, id)| id));
    Said::of(form, &Sessions { sessions }, |list| show::sessions(&list.sessions, Look::PLAIN))
}

pub(super) fn metrics(shell: &Shell, form: Form) -> Result<Said, Failure> {
    let metrics = metrics::metrics(&shell.state());
    Said::of(form, &metrics, |metrics| show::metrics(metrics, Look::PLAIN))
}

pub(super) fn events(shell: &Shell, wanted: usize) -> Said {
    let events = shell.state().events.recent(wanted);
    Said::new(Vec::new(), member("events", serde_json::json!(events)))
}

pub(super) fn logs(shell: &Shell, scope: Scope, app: &str, wanted: usize) -> Result<Said, Failure> {
    let state = shell.state();
    let (_, app) = find(&state, scope, app)?;
    let json = [
        ("lines", serde_json::json!(state.output_lines(app, wanted))),
        ("file", serde_json::json!(state.output_file(app).map(|file| file.to_string_lossy().into_owned()))),
    ];
    let json = json.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(Said::new(Vec::new(), json))
}

/// The app that is meant, of those that somebody may know of: its root, and itself.
///
/// # Errors
/// One sentence.
pub(super) fn find(state: &State, scope: Scope, app: &str) -> Result<(Vec<u8>, AppId), Failure> {
    let mut names = state.names();
    if let Scope::RunAs(uid) = scope {
        let own = roots_of(state, uid);
        names.retain(|(root, _)| own.contains(&text(root)));
    }
    let found = status::find(app, &names).map(<[u8]>::to_vec);
    let found = found.and_then(|root| match state.pool.app(&root) {
        Some(id) => Ok((root, id)),
        None => Err(format!("{} is known no more", text(&root))),
    });
    found.map_err(|why| match scope {
        Scope::Every => why.into(),
        Scope::RunAs(uid) => format!(
            "{why}; of yours: whom an application runs as (here user {uid}) is known once it was started for the first \
             time"
        )
        .into(),
    })
}

/// The apps that run as this user, as their present generation was found to. Of an app that was never looked into,
/// that is known of nobody.
fn roots_of(state: &State, uid: u32) -> HashSet<String> {
    let apps = state.pool.snapshot(state.now()).apps;
    let own = apps.into_iter().filter(|app| {
        let plan = state.apps.get(&app.id).and_then(|known| known.plans.get(&app.generation));
        plan.and_then(|plan| plan.identity.as_ref()).is_some_and(|identity| identity.uid == uid)
    });
    own.map(|app| text(&app.root)).collect()
}

/// Whether somebody may still know of this app.
pub(super) fn is_in(state: &State, scope: Scope, app: AppId) -> bool {
    match scope {
        Scope::Every => true,
        Scope::RunAs(uid) => state.pool.root(app).is_some_and(|root| roots_of(state, uid).contains(&text(root))),
    }
}

pub(super) fn text(root: &[u8]) -> String {
    String::from_utf8_lossy(root).into_owned()
}
