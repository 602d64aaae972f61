//! What outlasts the pool, if the operator names a folder for it: which apps were added, removed, stopped or disabled
//! while it ran. What its configuration says is not repeated here, so that this can change.

mod file;

use super::apps;
use super::shell::{Shell, State};
use file::{Folder, Writer};
use hatchery_pool::{AppState, Disabling, Event, Request};
use hatchery_protocol::options::AppOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How long the end of the pool waits for a slow disk.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What is kept, and who writes it.
#[derive(Debug)]
pub(super) struct Memory {
    last: Remembered,
    writer: Writer,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Remembered {
    apps: Vec<RememberedApp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RememberedApp {
    root: Root,
    /// With these options; `None`: it was not, the configuration has it.
    added: Option<AppOptions>,
    #[serde(default)]
    removed: bool,
    #[serde(default)]
    stopped: bool,
    /// Why.
    disabled: Option<String>,
}

/// An app's root: text where it is, so that people can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Root {
    Text(String),
    Bytes(Vec<u8>),
}

impl Root {
    fn of(root: &[u8]) -> Self {
        String::from_utf8(root.to_vec()).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Remembered {
    /// As JSON, without what is not set.
    fn text(&self) -> Vec<u8> {
        let mut value = serde_json::json!(self);
        drop_nulls(&mut value);
        format!("{value:#}\n").into_bytes()
    }
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(array) => array.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Whether a fact may change what is remembered.
pub(super) fn may_outlast(event: &Event) -> bool {
    matches!(
        event,
        Event::Added { .. }
            | Event::Removed { .. }
            | Event::StopApp { .. }
            | Event::StartApp { .. }
            | Event::Disable { .. }
            | Event::Enable { .. }
    )
}

impl State {
    /// Has it written if it is another than before.
    pub(super) fn remember(&mut self) {
        if self.memory.is_none() {
            return;
        }
        let now = self.to_remember();
        if let Some(memory) = self.memory.as_mut().filter(|memory| memory.last != now) {
            memory.writer.write(now.text());
            memory.last = now;
        }
    }

    /// What differs from the operator's configuration.
    fn to_remember(&self) -> Remembered {
        let mut configured: BTreeMap<&[u8], &AppOptions> =
            self.config.apps.iter().map(|app| (app.root.as_slice(), &app.options)).collect();
        let mut apps = Vec::new();
        for app in self.pool.snapshot(self.now()).apps {
            let disabled = app.disabled.and_then(|(why, _)| match why {
                Disabling::Operator(why) => Some(why),
                Disabling::Failures { .. } => None,
            });
            let stopped = app.state == AppState::Stopped;
            let own = self.options.get(&app.root);
            // Somebody's `get` alone made it known, and it is still to be found stopped.
            let kept = app.registered || stopped || disabled.is_some();
            let added = match configured.get(app.root.as_slice()) {
                Some(configured) if app.registered => own.filter(|own| own != configured),
                Some(_) => continue,
                None => own.filter(|_| kept),
            };
            configured.remove(app.root.as_slice());
            if added.is_some() || stopped || disabled.is_some() {
                let root = Root::of(&app.root);
                apps.push(RememberedApp { root, added: added.cloned(), removed: false, stopped, disabled });
            }
        }
        let removed = configured.into_keys().map(|root| RememberedApp {
            root: Root::of(root),
            added: None,
            removed: true,
            stopped: false,
            disabled: None,
        });
        apps.extend(removed);
        Remembered { apps }
    }
}

impl Shell {
    /// Does again what was done to apps while an earlier pool ran. Once, after the configured apps are known.
    pub(super) fn recall(&self) {
        let Some(path) = self.state().config.state_dir.clone() else { return };
        match open(&path) {
            Ok((remembered, writer)) => {
                remembered.apps.iter().for_each(|app| self.recall_app(app));
                let mut state = self.state();
                state.memory = Some(Memory { last: remembered, writer });
                state.remember();
            }
            Err(error) => tracing::error!("{error}; nothing that changes from now on is remembered"),
        }
    }

    fn recall_app(&self, app: &RememberedApp) {
        let root = app.root.bytes().to_vec();
        let is_configured = self.state().config.apps.iter().any(|configured| configured.root == root);
        if app.removed {
            if is_configured {
                self.tell(Event::Removed { request: None, root });
            }
            return;
        }
        if let Some(options) = &app.added {
            // As if it were said now: what the operator allows may be less than it was.
            let said = apps::check(&root, options)
                .and_then(|()| self.order_now(|request| self.add(request, root.clone(), options.clone())));
            if let Err(why) = said {
                let shown = String::from_utf8_lossy(&root);
                return tracing::error!("{shown} was added to an earlier pool, and is not again: {why}");
            }
        } else if !is_configured {
            // The configuration had it, and has it no more.
            return;
        }
        if app.stopped {
            self.tell(Event::StopApp { request: None, root: root.clone() });
        }
        if let Some(why) = app.disabled.clone() {
            self.tell(Event::Disable { request: None, root, why });
        }
    }

    /// Gives an order that the pool answers at once.
    fn order_now(&self, order: impl FnOnce(Request)) -> Result<(), String> {
        let (request, mut answer) = self.state().question();
        order(request);
        match answer.try_recv() {
            Ok(answer) => answer.map_err(|refused| refused.refusal.to_string()),
            Err(_) => Err("the pool did not answer".into()),
        }
    }

    /// Ends when everything that was changed so far is on disk.
    pub(super) async fn written(&self) {
        let written = self.state().memory.as_ref().map(|memory| memory.writer.written());
        if let Some(written) = written
            && tokio::time::timeout(LAST_WRITE, written).await.is_err()
        {
            tracing::error!("state_dir: its disk is slow: what was changed last is not written within {LAST_WRITE:?}");
        }
    }
}

/// A broken file is said, and nothing is remembered of it.
fn open(path: &Path) -> Result<(Remembered, Writer), file::StateError> {
    let folder = Folder::open(path)?;
    let remembered = folder.read().unwrap_or_else(|error| {
        tracing::error!("{error}");
        Remembered::default()
    });
    Ok((remembered, Writer::start(folder)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn remembered() -> Remembered {
        let app = |root: Root| RememberedApp { root, added: None, removed: false, stopped: false, disabled: None };
        let options = AppOptions {
            max_idle: Some(Duration::from_millis(1500)),
            watch_ignore: Some(vec!["*.css".into()]),
            env: vec![("A".into(), "b".into())],
            ..AppOptions::default()
        };
        Remembered {
            apps: vec![
                RememberedApp { added: Some(options), stopped: true, ..app(Root::of(b"/srv/shop")) },
                RememberedApp { disabled: Some("moves".into()), ..app(Root::of(b"/srv/\xff")) },
                RememberedApp { removed: true, ..app(Root::of(b"/srv/blog")) },
            ],
        }
    }

    #[test]
    fn what_is_not_set_is_not_written_and_roots_are_text_where_they_can_be() {
        let text = String::from_utf8(remembered().text()).unwrap();
        assert!(!text.contains("null") && !text.contains("max_memory"), "{text}");
        assert!(text.contains("\"root\": \"/srv/shop\""), "{text}");
        let read: Remembered = serde_json::from_str(&text).unwrap();
        assert_eq!(read, remembered());
        assert_eq!(read.apps[1].root.bytes(), b"/srv/\xff");
    }
}
