//! Another configuration, while the pool runs: what the keeper read where the first came from.

use super::shell::Shell;
use super::translate;
use hatchery_pool::Event;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::ToKeeper;
use hatchery_protocol::memfd;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

impl Shell {
    /// Lets the keeper read the configuration again.
    ///
    /// # Errors
    /// What is wrong with it, one or more lines. Nothing has changed then.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let answer = {
            let mut state = self.state();
            let (sender, answer) = oneshot::channel();
            state.reloads.push_back(sender);
            state.tell_keeper(&ToKeeper::Reload, &[]);
            answer
        };
        answer.await.unwrap_or_else(|_| Err("the pool is ending".into()))
    }

    /// The keeper's answer. `kept`: keys whose new value needs a new start.
    pub(super) fn reloaded(&self, problem: Option<String>, kept: &[String], descriptors: Vec<OwnedFd>) {
        let outcome = match (problem, descriptors.first()) {
            (Some(problem), _) => Err(problem),
            (None, Some(memfd)) => memfd::read(memfd).map_err(|error| error.to_string()),
            (None, None) => Err("the keeper gave no configuration".into()),
        };
        let outcome = outcome.map(|config| self.configure_anew(config));
        match &outcome {
            Err(problem) => tracing::warn!("the configuration stays as it was: {problem}"),
            Ok(()) if !kept.is_empty() => {
                tracing::warn!("{} can't change while the pool runs: the new value needs a new start", kept.join(", "));
            }
            Ok(()) => {}
        }
        let waiting = self.state().reloads.pop_front();
        if let Some(waiting) = waiting {
            // Whoever asked may be gone.
            let _ = waiting.send(outcome);
        }
    }

    fn configure_anew(&self, config: PoolConfig) {
        let (settings, gone) = {
            let mut state = self.state();
            let settings = translate::settings(&config, state.privileged);
            let kept = |root: &[u8]| config.apps.iter().any(|app| app.root == root);
            let before = std::mem::take(&mut state.config.apps).into_iter().map(|app| app.root);
            let gone: Vec<Vec<u8>> = before.filter(|root| !kept(root)).collect();
            state.config = config;
            (settings, gone)
        };
        self.tell(Event::Reloaded { settings: Box::new(settings) });
        for root in gone {
            self.tell(Event::Removed { request: None, root });
        }
        self.register_apps();
        tracing::info!("the configuration was read again and holds from now on");
    }
}
