//! Settings that were read, wherever they were written: whether they make sense, and what the pool is told.

use crate::admin_http;
use crate::serve::listen::Place;
use hatchery_pool_client::{Admin, AppConfig, AppOptions, LogFormat, PoolConfig};
use hatchery_protocol::config::{AdminAccess, LogConfig, OutputConfig, PoolOptions, TenantConfig};
use hatchery_protocol::root::normalised;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Of the drain at the end, where nobody says otherwise.
const DRAIN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether settings of the pool make sense.
///
/// # Errors
/// One sentence.
pub(crate) fn check_pool(options: &PoolOptions) -> Result<(), String> {
    let least_one = [
        ("max", options.max, "a pool without workers serves nobody"),
        ("max_starting", options.max_starting, "no worker could ever start"),
        ("max_sessions", options.max_sessions, "no session could ever begin"),
        ("max_queue_total", options.max_queue_total, "not even the first request could wait for its worker"),
        ("output_files", options.output_files, "the present file is one of them"),
    ];
    if let Some((name, _, why)) = least_one.iter().find(|(_, value, _)| *value == Some(0)) {
        return Err(format!("{name} is 0: {why}; 1 is the least"));
    }
    if options.output_max_size.is_some_and(|size| (1..4096).contains(&size)) {
        return Err("output_max_size is below 4K: a file would be begun anew with every few lines".to_owned());
    }
    let words = [
        ("pool_user", &options.pool_user),
        ("lowest_user", &options.lowest_user),
        ("admin_group", &options.admin_group),
        ("admin_readers", &options.admin_readers),
    ];
    if let Some((name, _)) = words.iter().find(|(_, word)| word.as_ref().is_some_and(|word| !is_word(word))) {
        let what = if name.starts_with("admin_") { "a group's" } else { "a user's" };
        return Err(format!("{name} has to be {what} name, or a number"));
    }
    let paths = [
        ("admin", &options.admin),
        ("log_file", &options.log_file),
        ("output_dir", &options.output_dir),
        ("state_dir", &options.state_dir),
    ];
    if let Some((name, _)) = paths.iter().find(|(_, path)| path.as_deref() == Some("")) {
        return Err(format!("{name} is empty; give it a path, or leave it out"));
    }
    options.log_format.as_deref().map(log_format).transpose()?;
    admin_http::Wanted::of(options)?;
    for place in options.listen.iter().flatten() {
        place.parse::<Place>()?;
    }
    Ok(())
}

/// Whether settings of an app make sense.
///
/// # Errors
/// One sentence, which begins with the key.
pub(crate) fn check_app(options: &AppOptions) -> Result<(), String> {
    if options.environment.as_ref().is_some_and(|name| !is_word(name)) {
        return Err("environment has to be a word, such as development, staging or production".to_owned());
    }
    options.check()
}

pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("log_format can be text or json, and is `{other}`")),
    }
}

/// The words of a key of the pool, with relative paths made absolute from `folder`.
///
/// # Errors
/// The folder's path is no text.
pub(crate) fn anchored(key: &str, words: &[String], folder: &Path) -> Result<Vec<String>, String> {
    let absolute = |path: &str| {
        let path = normalised(folder, &home(path)).into_os_string().into_string();
        path.map_err(|path| format!("{} is no text in UTF-8; use a path that is", path.display()))
    };
    let anchor = |word: &String| match (key, word.strip_prefix("unix:")) {
        _ if word.is_empty() => Ok(word.clone()),
        ("log_file" | "output_dir" | "state_dir" | "apps_under" | "cgroup", _) => absolute(word),
        ("admin", _) if word != "none" => absolute(word),
        ("listen" | "admin_http", Some(path)) if !path.is_empty() => Ok(format!("unix:{}", absolute(path)?)),
        _ => Ok(word.clone()),
    };
    words.iter().map(anchor).collect()
}

/// `~/site` where no shell has read it: in a file, and behind the `=` of an option.
pub(crate) fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// Whether there is nothing at this path. What else may be wrong with it, the pool finds out and reports.
pub(crate) fn nothing_at(root: &Path) -> bool {
    std::fs::metadata(root).is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// What the pool is started with. `pool` and `defaults` have been checked.
///
/// # Errors
/// One sentence.
pub(crate) fn pool_config(
    pool: PoolOptions,
    defaults: AppOptions,
    tenants: Vec<TenantConfig>,
    apps: Vec<AppConfig>,
) -> Result<PoolConfig, String> {
    let default = PoolConfig::default();
    let output = OutputConfig::default();
    Ok(PoolConfig {
        max: pool.max.unwrap_or(default.max),
        surge: pool.surge.unwrap_or(default.surge),
        max_queue_total: pool.max_queue_total.unwrap_or(default.max_queue_total),
        max_starting: pool.max_starting.or(default.max_starting),
        max_preloaders: pool.max_preloaders.or(default.max_preloaders),
        max_preloader_idle: pool.max_preloader_idle.unwrap_or(default.max_preloader_idle),
        fair_wait: pool.fair_wait.unwrap_or(default.fair_wait),
        evict_timeout: pool.evict_timeout.unwrap_or(default.evict_timeout),
        max_sessions: pool.max_sessions.unwrap_or(default.max_sessions),
        drain_timeout: defaults.drain_timeout.unwrap_or(DRAIN_TIMEOUT),
        defaults,
        apps,
        tenants,
        admin_access: AdminAccess {
            group: pool.admin_group,
            readers: pool.admin_readers,
            owners: pool.admin_owners.unwrap_or_default(),
        },
        admin: match pool.admin.as_deref() {
            None => Admin::DefaultPlace,
            Some("none") => Admin::None,
            Some(path) => Admin::At(path.into()),
        },
        log: LogConfig {
            file: pool.log_file.map(PathBuf::from),
            format: pool.log_format.as_deref().map(log_format).transpose()?.unwrap_or_default(),
        },
        output: OutputConfig {
            folder: pool.output_dir.map(PathBuf::from),
            max_size: pool.output_max_size.unwrap_or(output.max_size),
            files: pool.output_files.unwrap_or(output.files),
        },
        pool_user: pool.pool_user,
        lowest_user: pool.lowest_user.unwrap_or(default.lowest_user),
        min_uid: pool.min_uid.unwrap_or(default.min_uid),
        trust_clients: pool.trust_clients.unwrap_or(default.trust_clients),
        apps_under: pool
            .apps_under
            .unwrap_or_default()
            .iter()
            .map(|path| Path::new(path).as_os_str().as_bytes().to_vec())
            .collect(),
        state_dir: pool.state_dir.map(PathBuf::from),
        cgroup: pool.cgroup.map(PathBuf::from),
        spawner: None,
        source: None,
    })
}
