//! Settings of the whole pool.

use super::Setting;
use hatchery_protocol::config::{Admin, LogFormat, PoolConfig, PoolOptions};
use hatchery_protocol::keys::Key;

/// Those that can change while the pool runs.
const LIVE: [&str; 9] = [
    "max",
    "surge",
    "max_queue_total",
    "max_starting",
    "max_preloaders",
    "max_preloader_idle",
    "fair_wait",
    "evict_timeout",
    "max_sessions",
];
/// Of none of them is 0 of any use.
const LEAST_ONE: [&str; 4] = ["max", "max_starting", "max_sessions", "max_queue_total"];
/// Keeper and spawner take them from the configuration themselves, and from nobody else.
const OF_THE_FILE: [&str; 4] = ["lowest_user", "min_uid", "trust_clients", "apps_under"];
/// The pool does not know them.
const OF_THE_WEB_SERVER: [&str; 4] = ["listen", "admin_http", "admin_http_actions", "admin_http_hosts"];

pub(super) fn key(name: &str) -> Option<&'static Key> {
    PoolOptions::KEYS.iter().find(|key| key.name == name)
}

/// The configuration with another value of this key.
///
/// # Errors
/// One sentence.
pub(super) fn changed(mut config: PoolConfig, name: &str, value: &str) -> Result<PoolConfig, String> {
    if OF_THE_FILE.contains(&name) {
        return Err(format!("{name} is taken from the configuration alone: change it there, then `reload`"));
    }
    if !LIVE.contains(&name) {
        return Err(format!(
            "{name} can't change while the pool runs: change it in the configuration, and start the pool anew"
        ));
    }
    if value.is_empty() {
        return Err(format!("{name} needs a value; `reload` goes back to what the configuration says"));
    }
    let mut said = PoolOptions::default();
    said.set(name, &[value.to_owned()]).map_err(|why| format!("{name}: {why}"))?;
    if LEAST_ONE.contains(&name) && said.words(name).is_some_and(|words| words == ["0"]) {
        return Err(format!("{name} is 0, with which nobody could be served; 1 is the least"));
    }
    let PoolOptions {
        max,
        surge,
        max_queue_total,
        max_starting,
        max_preloaders,
        max_preloader_idle,
        fair_wait,
        evict_timeout,
        max_sessions,
        ..
    } = said;
    config.max = max.unwrap_or(config.max);
    config.surge = surge.unwrap_or(config.surge);
    config.max_queue_total = max_queue_total.unwrap_or(config.max_queue_total);
    config.max_starting = max_starting.or(config.max_starting);
    config.max_preloaders = max_preloaders.or(config.max_preloaders);
    config.max_preloader_idle = max_preloader_idle.unwrap_or(config.max_preloader_idle);
    config.fair_wait = fair_wait.unwrap_or(config.fair_wait);
    config.evict_timeout = evict_timeout.unwrap_or(config.evict_timeout);
    config.max_sessions = max_sessions.unwrap_or(config.max_sessions);
    Ok(config)
}

/// # Errors
/// The pool does not know it.
pub(super) fn setting(name: &str, live: &PoolConfig, given: &PoolConfig) -> Result<Setting, String> {
    if OF_THE_WEB_SERVER.contains(&name) {
        return Err(format!("{name} is the web server's, which the pool knows nothing of: see the configuration"));
    }
    let key = key(name).ok_or_else(|| format!("there is no key {name}"))?;
    let (words, configured, default) =
        (options(live).words(name), options(given).words(name), options(&PoolConfig::default()).words(name));
    let from = if words == default { "default" } else { "pool" };
    let changed = words != configured;
    let value = words.map_or_else(|| key.default.to_owned(), |words| words.join(" "));
    Ok(Setting { key: key.name, value, from, changed })
}

/// A configuration as its keys.
fn options(config: &PoolConfig) -> PoolOptions {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let under = config.apps_under.iter().map(|root| String::from_utf8_lossy(root).into_owned());
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    PoolOptions {
        listen: None,
        admin: match &config.admin {
            Admin::None => Some("none".into()),
            Admin::DefaultPlace => None,
            Admin::At(at) => Some(path(at)),
        },
        admin_group: config.admin_access.group.clone(),
        admin_readers: config.admin_access.readers.clone(),
        admin_owners: Some(config.admin_access.owners),
        admin_http: None,
        admin_http_actions: None,
        admin_http_hosts: None,
        max: Some(config.max),
        surge: Some(config.surge),
        max_queue_total: Some(config.max_queue_total),
        max_starting: config.max_starting,
        max_preloaders: config.max_preloaders,
        max_preloader_idle: Some(config.max_preloader_idle),
        fair_wait: Some(config.fair_wait),
        evict_timeout: Some(config.evict_timeout),
        max_sessions: Some(config.max_sessions),
        log_file: config.log.file.as_deref().map(path),
        log_format: Some(format.into()),
        output_dir: config.output.folder.as_deref().map(path),
        output_max_size: Some(config.output.max_size),
        output_files: Some(config.output.files),
        state_dir: config.state_dir.as_deref().map(path),
        pool_user: config.pool_user.clone(),
        lowest_user: Some(config.lowest_user.clone()),
        min_uid: Some(config.min_uid),
        trust_clients: Some(config.trust_clients),
        apps_under: Some(under.collect::<Vec<_>>()).filter(|under| !under.is_empty()),
        cgroup: config.cgroup.as_deref().map(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_set_or_says_where_else_it_is_to_be_changed() {
        for key in PoolOptions::KEYS {
            let value = if key.kind == "time" { "7s" } else { "7" };
            match changed(PoolConfig::default(), key.name, value) {
                Ok(config) => {
                    let set = setting(key.name, &config, &PoolConfig::default()).ok().unwrap();
                    assert_eq!((set.value.as_str(), set.from, set.changed), (value, "pool", true), "{}", key.name);
                }
                Err(why) => assert!(why.contains("configuration"), "{why}"),
            }
        }
    }

    #[test]
    fn what_is_left_open_is_shown_by_its_default_and_nothing_is_set_to_nonsense() {
        let config = PoolConfig::default();
        let max = setting("max", &config, &config).ok().unwrap();
        assert_eq!((max.value.as_str(), max.from, max.changed), ("6", "default", false));
        assert_eq!(setting("max_starting", &config, &config).ok().unwrap().value, "the number of cores");
        assert!(setting("listen", &config, &config).is_err());
        for (key, value, why) in
            [("max", "0", "1 is the least"), ("max", "many", "max: "), ("max", "", "needs a value")]
        {
            let refused = changed(config.clone(), key, value).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
