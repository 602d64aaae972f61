//! Settings of the live pool: what they are, and changing them. What is set without an application holds until the
//! configuration is read again; an application's own settings are remembered like those of `add`.

mod given;
mod holds;
mod of_pool;

use super::answer::{Failure, Object, Said, member};
use super::looking::{find, text};
use super::rights::Scope;
use crate::core::output::printable;
use crate::core::shell::{Shell, State};
use hatchery_protocol::config::{PoolConfig, PoolOptions};
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;
use holds::holds;
use serde_json::Value;

pub(super) async fn set(
    shell: &Shell,
    scope: Scope,
    app: Option<&str>,
    key: &str,
    value: &str,
) -> Result<Said, Failure> {
    match app {
        Some(app) => set_app(shell, scope, app, app_key(key)?, value).await,
        None if of_pool::key(key).is_some() => set_pool(shell, key, value),
        None => set_default(shell, app_key(key)?, value),
    }
}

/// The words of a value: the rest of the line, and of a list each.
fn words(key: &Key, value: &str) -> Vec<String> {
    if key.list { value.split_whitespace().map(str::to_owned).collect() } else { vec![value.to_owned()] }
}

fn app_key(name: &str) -> Result<&'static Key, Failure> {
    let key = AppOptions::KEYS.iter().find(|key| key.name == name);
    key.ok_or_else(|| match of_pool::key(name) {
        Some(_) => format!("{name} is of the whole pool: leave the application out").into(),
        None => format!("there is no key {}; get lists them", printable(name)).into(),
    })
}

/// `options` with this key at another value; an empty one takes it away.
fn changed(options: &AppOptions, key: &Key, value: &str) -> Result<AppOptions, String> {
    let mut options = options.clone();
    if value.is_empty() {
        options.unset(key.name);
    } else {
        options.set(key.name, &words(key, value)).map_err(|why| format!("{}: {why}", key.name))?;
    }
    if key.name == "environment" && value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("environment has to be a word, such as development, staging or production".to_owned());
    }
    options.check()?;
    Ok(options)
}

async fn set_app(shell: &Shell, scope: Scope, app: &str, key: &Key, value: &str) -> Result<Said, Failure> {
    let (root, options, notes) = {
        let state = shell.state();
        let (root, id) = find(&state, scope, app)?;
        let apps = state.pool.snapshot(state.now()).apps;
        if !apps.iter().any(|app| app.id == id && app.registered) {
            let root = text(&root);
            return Err(format!(
                "{root} is not registered, and goes when nobody uses it: `add {root} {}={value}` registers it",
                key.name
            )
            .into());
        }
        let own = state.options.get(&root).cloned().unwrap_or_default();
        let mut options = changed(&own, key, value)?;
        state.check_said(&root, &options)?;
        state.holds_to_the_configuration(&root, key, &options)?;
        if key.name == "tenant" && !state.is_bounded() {
            state.take_over_identity(&own, &mut options);
        }
        (root, options, state.notes(key, false))
    };
    shell.register(&root, options);
    shell.written().await;
    Ok(Said::notes(notes))
}

fn set_default(shell: &Shell, key: &Key, value: &str) -> Result<Said, Failure> {
    let (config, notes) = {
        let state = shell.state();
        let mut config = state.live();
        config.defaults = changed(&config.defaults, key, value)?;
        state.check_tenant(&config.defaults)?;
        state.defaults_hold_to_the_configuration(key, &config.defaults)?;
        (config, state.notes(key, true))
    };
    shell.change(config);
    Ok(Said::notes(notes))
}

fn set_pool(shell: &Shell, key: &str, value: &str) -> Result<Said, Failure> {
    let (config, notes) = {
        let state = shell.state();
        let config = of_pool::changed(state.live(), key, value)?;
        state.pool_holds_to_the_configuration(&config)?;
        (config, vec![UNTIL_RELOAD.to_owned()])
    };
    shell.change(config);
    Ok(Said::notes(notes))
}

const UNTIL_RELOAD: &str = "until the configuration is read again; write it there for it to stay";

impl State {
    /// What else there is to say of a change.
    fn notes(&self, key: &Key, default: bool) -> Vec<String> {
        let mut notes: Vec<String> = holds(key.name).and_then(|holds| holds.said()).into_iter().collect();
        if !self.privileged && ["user", "group", "lower_privilege"].contains(&key.name) {
            notes.push("this pool has no privileges: its applications run as itself, whatever this says".into());
        }
        if key.name == "tenant" && self.is_bounded() {
            notes.push(
                "whom it runs as stays what the configuration says: write the tenant there too, and `reload`".into(),
            );
        } else if key.name == "tenant" {
            notes.push(
                "whom it runs as, if its tenant says that, holds from its next generation on: `restart` it".into(),
            );
        }
        if default && key.name == "drain_timeout" {
            notes.push("the drain at the pool's own end keeps the time it was configured with".into());
        }
        if default {
            notes.push(UNTIL_RELOAD.to_owned());
        }
        notes
    }

    /// Where a tenant says whom its applications run as, that is merged into their options.
    fn take_over_identity(&self, before: &AppOptions, options: &mut AppOptions) {
        let tenant = |options: &AppOptions| {
            let name = options.tenant.as_deref().or(self.config.defaults.tenant.as_deref())?;
            self.config.tenants.iter().find(|tenant| tenant.name == name).map(|tenant| tenant.options.clone())
        };
        let (old, new) = (tenant(before).unwrap_or_default(), tenant(options).unwrap_or_default());
        if before.user == old.user {
            options.user = new.user;
        }
        if before.group == old.group {
            options.group = new.group;
        }
    }
}

// ── get ──────────────────────────────────────────────────────────────────────────────────────────

/// One setting as it holds.
struct Setting {
    key: &'static str,
    value: String,
    from: &'static str,
    /// The configuration says something else.
    changed: bool,
}

impl Setting {
    fn line(&self) -> String {
        let Self { key, value, from, changed } = self;
        let live = if *changed { ", set on the live pool" } else { "" };
        format!("{key} = {}  # {from}{live}", printable(value))
    }

    fn members(&self) -> Object {
        let members: [(&str, Value); 3] =
            [("value", self.value.clone().into()), ("from", self.from.into()), ("changed", self.changed.into())];
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

pub(super) fn get(shell: &Shell, scope: Scope, app: Option<&str>, key: Option<&str>) -> Result<Said, Failure> {
    let state = shell.state();
    let live = state.live();
    let settings: Vec<Setting> = match (app, key) {
        (Some(app), key) => {
            let (root, _) = find(&state, scope, app)?;
            let keys = key.map(app_key).transpose()?;
            let own = state.options.get(&root).cloned().unwrap_or_default();
            let configured = state.configured(&root);
            let keys: Vec<&Key> = keys.map_or_else(|| AppOptions::KEYS.iter().collect(), |key| vec![key]);
            keys.into_iter().map(|key| of_app(key, &own, &live, &configured, &state.given)).collect()
        }
        (None, Some(key)) if of_pool::key(key).is_some() => vec![of_pool::setting(key, &live, &state.given)?],
        (None, Some(key)) => vec![of_defaults(app_key(key)?, &live, &state.given)],
        (None, None) => {
            let of_pool =
                PoolOptions::KEYS.iter().filter_map(|key| of_pool::setting(key.name, &live, &state.given).ok());
            of_pool.chain(AppOptions::KEYS.iter().map(|key| of_defaults(key, &live, &state.given))).collect()
        }
    };
    let lines = settings.iter().map(Setting::line).collect();
    let json = match (settings.as_slice(), key) {
        ([setting], Some(_)) => {
            let mut json = member("key", setting.key.into());
            json.extend(setting.members());
            json
        }
        (settings, _) => {
            let all: Object = settings.iter().map(|one| (one.key.to_owned(), one.members().into())).collect();
            member("settings", all.into())
        }
    };
    Ok(Said::new(lines, json))
}

fn of_app(
    key: &'static Key,
    own: &AppOptions,
    live: &PoolConfig,
    configured: &AppOptions,
    given: &PoolConfig,
) -> Setting {
    let Some(words) = own.words(key.name) else {
        let changed = configured.sets(key.name) || live.defaults.words(key.name) != given.defaults.words(key.name);
        return Setting { changed, ..of_defaults(key, live, given) };
    };
    let changed = configured.words(key.name).as_ref() != Some(&words);
    Setting { key: key.name, value: words.join(" "), from: "app", changed }
}

fn of_defaults(key: &'static Key, live: &PoolConfig, given: &PoolConfig) -> Setting {
    let words = live.defaults.words(key.name);
    let changed = words != given.defaults.words(key.name);
    match words {
        Some(words) => Setting { key: key.name, value: words.join(" "), from: "defaults", changed },
        None => Setting { key: key.name, value: key.default.to_owned(), from: "default", changed },
    }
}
