//! What the page may do, where its operator lets it: the words of an order, and what came of it.

use super::answers::{self, Answer};
use super::operator::Operator;
use crate::cut;
use crate::serve::forward::Front;
use hatchery_pool_client::{CallError, Client, RestartMode, SessionId};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// For the pool to be reached.
const PATIENCE: Duration = Duration::from_secs(2);
/// A reason that somebody types.
const LONGEST_REASON: usize = 500;

/// One order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The root of the app.
    Restart(String, RestartMode),
    Stop(String),
    Start(String),
    Enable(String),
    /// And why.
    Disable(String, String),
    /// By its number.
    Retire(u64),
    End(u64),
    Clear,
}

impl Action {
    /// Reads `{"do": "restart", "root": "/srv/shop", "mode": "graceful"}` and its like.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let said: Value = serde_json::from_slice(body).map_err(|error| format!("the action is no JSON: {error}"))?;
        let text = |key: &str| {
            let text = said[key].as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| format!("the action needs `{key}`, a text"))
        };
        let number = |key: &str| said[key].as_u64().ok_or_else(|| format!("the action needs `{key}`, a number"));
        Ok(match said["do"].as_str().unwrap_or_default() {
            "restart" => Self::Restart(
                text("root")?,
                match said["mode"].as_str() {
                    None | Some("graceful") => RestartMode::Graceful,
                    Some("kill") => RestartMode::Kill,
                    Some(other) => return Err(format!("a restart's mode is graceful or kill, not {other}")),
                },
            ),
            "stop" => Self::Stop(text("root")?),
            "start" => Self::Start(text("root")?),
            "enable" => Self::Enable(text("root")?),
            "disable" => {
                let why = said["why"].as_str().unwrap_or("by hand").replace(char::is_control, " ");
                Self::Disable(text("root")?, cut::beginning(&why, LONGEST_REASON).to_owned())
            }
            "retire" => Self::Retire(number("worker")?),
            "end" => Self::End(number("session")?),
            "clear" => Self::Clear,
            other => {
                return Err(format!(
                    "`{other}` is no action; restart, stop, start, enable, disable, retire, end and clear are"
                ));
            }
        })
    }

    /// Carries it out, and waits for what comes of it.
    pub(super) async fn carry_out(self, front: &Front, operator: &Operator) -> Answer {
        tracing::info!("the live page orders: {self:?}");
        if let Self::Retire(worker) = self {
            return match operator.ask(&front.pool, &format!("retire {worker}")).await {
                Ok(line) => answers::json(status_of(&line), line),
                Err(why) => answers::failed(StatusCode::SERVICE_UNAVAILABLE, &why),
            };
        }
        let client = match front.pool.operator(PATIENCE).await {
            Ok(client) => client,
            Err(why) => return answers::failed(StatusCode::SERVICE_UNAVAILABLE, &why),
        };
        match self.say(&client).await {
            Ok(()) => answers::json(StatusCode::OK, json!({ "ok": true }).to_string()),
            Err(error) => answers::failed(StatusCode::CONFLICT, &error.to_string()),
        }
    }

    async fn say(self, client: &Client) -> Result<(), CallError> {
        match self {
            Self::Restart(root, mode) => client.restart(root, mode).await,
            Self::Stop(root) => client.stop(root).await,
            Self::Start(root) => client.start(root).await,
            Self::Enable(root) => client.enable(root).await,
            Self::Disable(root, why) => client.disable(root, why).await,
            Self::End(session) => client.end_session(SessionId(session)).await,
            Self::Clear => client.clear().await,
            Self::Retire(worker) => Err(CallError::Invalid(format!("worker {worker} is retired by its number"))),
        }
    }
}

fn status_of(line: &str) -> StatusCode {
    let done = serde_json::from_str::<Value>(line).is_ok_and(|answer| answer["ok"] == true);
    if done { StatusCode::OK } else { StatusCode::CONFLICT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_what_is_none_is_a_sentence() {
        let read = |said: Value| Action::read(said.to_string().as_bytes());
        let root = || "/srv/my shop".to_owned();
        for (said, action) in [
            (json!({"do": "restart", "root": root()}), Action::Restart(root(), RestartMode::Graceful)),
            (json!({"do": "restart", "root": root(), "mode": "kill"}), Action::Restart(root(), RestartMode::Kill)),
            (json!({"do": "disable", "root": root(), "why": "a\nb"}), Action::Disable(root(), "a b".into())),
            (json!({"do": "end", "session": 7}), Action::End(7)),
            (json!({"do": "retire", "worker": 7}), Action::Retire(7)),
            (json!({"do": "clear"}), Action::Clear),
        ] {
            assert_eq!(read(said).unwrap(), action);
        }
        for (said, why) in [
            (json!({"do": "shutdown"}), "no action"),
            (json!({}), "no action"),
            (json!([]), "no action"),
            (json!({"do": "stop"}), "needs `root`"),
            (json!({"do": "end", "session": "7"}), "needs `session`"),
            (json!({"do": "restart", "root": "/a", "mode": "soon"}), "graceful or kill"),
        ] {
            assert!(read(said).unwrap_err().contains(why), "{why}");
        }
        assert!(Action::read(b"restart").unwrap_err().contains("no JSON"));
    }
}
