//! Orders about apps, workers and sessions, and about the pool as a whole.

use super::answer::{Failure, Said, member, text_lines};
use super::command::Order;
use super::looking::find;
use super::rights::Scope;
use super::words;
use crate::core::apps;
use crate::core::output::printable;
use crate::core::shell::Shell;
use crate::core::status;
use hatchery_pool::{Event, Request, RestartMode, SessionId, WorkerId};
use hatchery_protocol::options::AppOptions;
use std::collections::BTreeMap;

/// Sessions that are named where there is no such session.
const NAMED: usize = 10;

pub(super) async fn restart(shell: &Shell, scope: Scope, app: &str, mode: RestartMode) -> Result<Said, Failure> {
    let (root, _) = find(&shell.state(), scope, app)?;
    give(shell, |request| shell.tell(Event::Restart { request: Some(request), root, mode })).await
}

pub(super) async fn order(shell: &Shell, scope: Scope, app: &str, order: Order) -> Result<Said, Failure> {
    let (root, _) = find(&shell.state(), scope, app)?;
    let event = |request| match order {
        Order::Deploy => Event::Staged { request, root },
        Order::Rollback => Event::RolledBack { request, root },
        Order::Stop => Event::StopApp { request, root },
        Order::Start => Event::StartApp { request, root },
        Order::Remove => Event::Removed { request, root },
        Order::Enable => Event::Enable { request, root },
    };
    give(shell, |request| shell.tell(event(Some(request)))).await
}

pub(super) async fn disable(shell: &Shell, scope: Scope, app: &str, why: String) -> Result<Said, Failure> {
    let (root, _) = find(&shell.state(), scope, app)?;
    give(shell, |request| shell.tell(Event::Disable { request: Some(request), root, why })).await
}

pub(super) async fn add(shell: &Shell, root: &str, settings: &[&str]) -> Result<Said, Failure> {
    let options = options(settings)?;
    apps::check(root.as_bytes(), &options)?;
    shell.state().check_said(root.as_bytes(), &options)?;
    give(shell, |request| shell.add(request, root.as_bytes().to_vec(), options)).await
}

/// What `KEY=VALUE` after `KEY=VALUE` says. A list has each of its words in one of its own.
fn options(settings: &[&str]) -> Result<AppOptions, String> {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(format!("'{}' is no setting: write KEY=VALUE", printable(setting)));
        };
        said.entry(key).or_default().push(words::unquoted(value).to_owned());
    }
    let mut options = AppOptions::default();
    for (key, words) in said {
        options.set(key, &words).map_err(|why| format!("{}: {why}", printable(key)))?;
    }
    Ok(options)
}

pub(super) async fn retire(shell: &Shell, said: &str) -> Result<Said, Failure> {
    let worker = worker_of(shell, said)?;
    give(shell, |request| shell.tell(Event::Retire { request: Some(request), worker })).await
}

/// `3` or `w3`, else a process.
fn worker_of(shell: &Shell, said: &str) -> Result<WorkerId, String> {
    let unknown = || format!("no worker '{}'; status lists them", printable(said));
    let number: u64 = said.strip_prefix('w').unwrap_or(said).parse().map_err(|_| unknown())?;
    let state = shell.state();
    let known = state.workers.get(WorkerId(number)).is_some() || state.is_listed(WorkerId(number));
    let by_pid = || said.parse().ok().and_then(|pid| state.workers.with_pid(pid));
    let worker = known.then_some(WorkerId(number)).or_else(by_pid).ok_or_else(unknown)?;
    state.only_a_worker(worker)
}

/// `17` or `s17`.
pub(super) async fn end(shell: &Shell, said: &str) -> Result<Said, Failure> {
    let number: Option<u64> = said.strip_prefix('s').unwrap_or(said).parse().ok();
    let open: Vec<u64> =
        status::sessions(&shell.state(), None).into_iter().filter(|open| !open.abandoned).map(|open| open.id).collect();
    let Some(session) = number.filter(|number| open.contains(number)).map(SessionId) else {
        return Err(format!("no session '{}' is open: {}", printable(said), named(&open)).into());
    };
    give(shell, |request| shell.tell(Event::EndSession { request: Some(request), session })).await
}

fn named(open: &[u64]) -> String {
    let shown = open.iter().take(NAMED).map(u64::to_string).collect::<Vec<_>>().join(", ");
    match open.len() {
        0 => "none is".to_owned(),
        1 => format!("only {shown} is; sessions tells more"),
        2..=NAMED => format!("{shown} are; sessions tells more"),
        more => format!("{more} are, such as {shown}; sessions lists them"),
    }
}

pub(super) async fn clear(shell: &Shell) -> Result<Said, Failure> {
    give(shell, |request| shell.tell(Event::Clear { request: Some(request) })).await
}

pub(super) async fn reload(shell: &Shell) -> Result<Said, Failure> {
    let Err(problem) = shell.reload().await else { return Ok(Said::default()) };
    let lines = text_lines(&problem);
    match lines.as_slice() {
        [why] => Err(why.clone().into()),
        _ => Err(Failure {
            why: "the configuration stays as it was".to_owned(),
            json: member("problems", serde_json::json!(lines)),
            details: lines,
        }),
    }
}

/// Answers once the pool has, and what outlasts it is on disk.
async fn give(shell: &Shell, order: impl FnOnce(Request)) -> Result<Said, Failure> {
    let answer = shell.order(order).await;
    shell.written().await;
    answer.map(|()| Said::default()).map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_named_and_not_all_of_it_where_that_is_much() {
        assert_eq!(named(&[]), "none is");
        assert_eq!(named(&[3]), "only 3 is; sessions tells more");
        assert_eq!(named(&[3, 5]), "3, 5 are; sessions tells more");
        let many: Vec<u64> = (1..=400).collect();
        assert_eq!(named(&many), "400 are, such as 1, 2, 3, 4, 5, 6, 7, 8, 9, 10; sessions lists them");
    }
}
