//! Reads the lines of a story.

use super::{App, EndedBy, Fate, Is, On, Order, Step, Told, Why};
use crate::event::{Close, ConnectFailure, RestartMode};
use crate::settings::Wanted;
use std::time::Duration;

/// `None` if the line says nothing that is known.
pub(super) fn step(line: &'static str) -> Option<Step> {
    let words: Vec<&'static str> = line.split_whitespace().collect();
    fact(&words).or_else(|| expectation(&words))
}

fn fact(words: &[&'static str]) -> Option<Step> {
    Some(match *words {
        ["get", app, "as", session, ref rest @ ..] => get(letter(app)?, session, rest)?,
        ["cancel", session] => Step::Cancel { session },
        ["finish", session] => Step::Close { session, how: Close::Finished },
        ["keep", session] => Step::Close { session, how: Close::Kept },
        ["abandon", session] => Step::Close { session, how: Close::Abandoned },
        ["reconnect", session] => Step::Reconnect { session },
        ["client", client, "dies"] => Step::ClientDies { client: client.parse().ok()? },
        ["worker", "ready"] => Step::WorkerReady { app: None },
        ["worker", "ready", "of", app] => Step::WorkerReady { app: Some(letter(app)?) },
        ["worker", "fails"] => Step::WorkerFails { app: None },
        ["worker", "fails", "of", app] => Step::WorkerFails { app: Some(letter(app)?) },
        ["kill", "worker", "of", session] => Step::KillWorker { session },
        ["worker", "of", session, "crashes"] => Step::Crash { session },
        ["worker", "of", session, "hangs"] => Step::Hang { session, on: true },
        ["worker", "of", session, "goes", "on"] => Step::Hang { session, on: false },
        ["worker", "of", session, "uses", bytes] => Step::Uses { session, bytes: bytes.parse().ok()? },
        ["nobody", "looks", "at", "workers"] => Step::NobodyLooks,
        [app, "is", "stubborn"] => Step::Stubborn { app: letter(app)? },
        [app, "can't", "be", "inspected"] => Step::Uninspectable { app: letter(app)? },
        [app, "refuses", "connections"] => Step::Unreachable { app: letter(app)?, why: ConnectFailure::Refused },
        [app, "has", "a", "full", "backlog"] => {
            Step::Unreachable { app: letter(app)?, why: ConnectFailure::BacklogFull }
        }
        [app, "finds", "no", "descriptors"] => Step::Unreachable { app: letter(app)?, why: ConnectFailure::Exhausted },
        ["worker", "of", session, "is", "done"] => Step::Lingered { session },
        ["set", "max", max] => Step::SetMax(max.parse().ok()?),
        ["set", "max", "per", "app", "none"] => Step::SetMaxPerApp(None),
        ["set", "max", "per", "app", max] => Step::SetMaxPerApp(Some(max.parse().ok()?)),
        ["set", "max", "idle", "never"] => Step::SetMaxIdle(None),
        ["set", "max", "idle", number, unit] => Step::SetMaxIdle(Some(duration(number, unit)?)),
        ["clear"] => Step::Clear,
        ["restart", app, "as", asker] => Step::Restart { app: letter(app)?, mode: RestartMode::Graceful, asker },
        ["restart", app, "with", "kill", "as", asker] => {
            Step::Restart { app: letter(app)?, mode: RestartMode::Kill, asker }
        }
        ["files", "of", app, "change"] => Step::FilesChange { app: letter(app)? },
        ["stage", app, "as", asker] => Step::Update { app: letter(app)?, back: false, asker },
        ["roll", app, "back", "as", asker] => Step::Update { app: letter(app)?, back: true, asker },
        [app, "is", "exchanged"] => Step::Exchanged { app: letter(app)?, done: true },
        ["the", "exchange", "of", app, "fails"] => Step::Exchanged { app: letter(app)?, done: false },
        ["retire", "worker", "of", session] => Step::Retire { session },
        ["end", "the", "pool", "within", number, unit] => Step::EndPool { grace: duration(number, unit)? },
        ["end", session] => Step::End { session },
        ["pass", number, unit] => Step::Pass(duration(number, unit)?),
        [order, app] => Step::Order { order: self::order(order)?, app: letter(app)? },
        _ => return None,
    })
}

fn expectation(words: &[&'static str]) -> Option<Step> {
    Some(match *words {
        ["granted", session, ref rest @ ..] => Step::Granted { session, on: on(rest)? },
        ["waiting", gets] if gets.parse::<u32>().is_ok() => Step::WaitingTotal { gets: gets.parse().ok()? },
        ["waiting", session] => Step::Waiting { session },
        ["refused", session, "disabled", "for", number, unit] => {
            Step::DisabledFor { session: session.strip_suffix(':')?, time: duration(number, unit)? }
        }
        ["refused", session, ref why @ ..] => {
            Step::Refused { session: session.strip_suffix(':')?, why: self::why(&why.join(" "))? }
        }
        [session, "ended:", ref why @ ..] => Step::Ended { session, why: ended_by(&why.join(" "))? },
        ["count", "of", app, workers] => Step::Count { app: Some(letter(app)?), workers: workers.parse().ok()? },
        ["count", workers] => Step::Count { app: None, workers: workers.parse().ok()? },
        ["starting", workers] => Step::Starting { workers: workers.parse().ok()? },
        ["active", workers] => Step::Active { workers: workers.parse().ok()? },
        ["worker", "of", session, "is", state] => Step::Worker { session, is: is(state)? },
        ["worker", "of", session, "was", "not", fate] => Step::Was { session, what: self::fate(fate)?, so: false },
        ["worker", "of", session, "was", fate] => Step::Was { session, what: self::fate(fate)?, so: true },
        [app, "is", "disabled"] => Step::Disabled { app: letter(app)?, so: true },
        [app, "is", "not", "disabled"] => Step::Disabled { app: letter(app)?, so: false },
        [app, "is", "forgotten"] => Step::Forgotten { app: letter(app)?, so: true },
        [app, "is", "known"] => Step::Forgotten { app: letter(app)?, so: false },
        [app, "is", "in", "generation", number] => {
            Step::InGeneration { app: letter(app)?, generation: number.parse().ok()? }
        }
        [asker, "is", "open"] => Step::Told { asker, what: Told::Nothing },
        [asker, "is", "done"] => Step::Told { asker, what: Told::Done },
        [asker, "is", "refused:", ref why @ ..] => {
            Step::Told { asker, what: Told::Refused(self::why(&why.join(" "))?) }
        }
        ["the", "pool", "has", "ended"] => Step::PoolEnded,
        _ => return None,
    })
}

fn get(app: App, session: &'static str, rest: &[&'static str]) -> Option<Step> {
    let (client, rest) = match *rest {
        ["by", "client", client, ref rest @ ..] => (client.parse().ok()?, rest),
        _ => (1, rest),
    };
    let wanted = match *rest {
        [] => Wanted::default(),
        ["wanting", "start"] => Wanted { operators: Some("start"), ..Wanted::default() },
        ["wanting", "max_queue", max] => Wanted { max_queue: Some(max.parse().ok()?), ..Wanted::default() },
        ["wanting", "linger", number, unit] => Wanted { linger: Some(duration(number, unit)?), ..Wanted::default() },
        _ => return None,
    };
    Some(Step::Get { app, session, client, wanted: Box::new(wanted) })
}

fn letter(word: &str) -> Option<App> {
    let mut letters = word.chars();
    letters.next().filter(|letter| letters.next().is_none() && letter.is_ascii_alphabetic())
}

fn duration(number: &str, unit: &str) -> Option<Duration> {
    match unit {
        "ms" => Some(Duration::from_millis(number.parse().ok()?)),
        "s" => Some(Duration::from_secs(number.parse().ok()?)),
        _ => None,
    }
}

fn order(word: &str) -> Option<Order> {
    Some(match word {
        "add" => Order::Add,
        "remove" => Order::Remove,
        "stop" => Order::Stop,
        "start" => Order::Start,
        "disable" => Order::Disable,
        "enable" => Order::Enable,
        _ => return None,
    })
}

fn on(words: &[&'static str]) -> Option<On> {
    Some(match *words {
        [] => On::Anything,
        ["on", "the", "worker", "of", session] => On::WorkerOf(session),
        ["on", "another", "worker", "than", session] => On::AnotherWorkerThan(session),
        ["on", "the", "lease", "of", session] => On::LeaseOf(session),
        ["freshly"] => On::FreshConnection,
        _ => return None,
    })
}

fn why(words: &str) -> Option<Why> {
    Some(match words {
        "spawn failed" => Why::SpawnFailed,
        "queue full" => Why::QueueFull,
        "pool's queue full" => Why::PoolQueueFull,
        "disabled" => Why::Disabled,
        "stopped" => Why::Stopped,
        "overloaded" => Why::Overloaded,
        "shutting down" => Why::ShuttingDown,
        "timed out" => Why::TimedOut,
        "not allowed" => Why::NotAllowed,
        "removed" => Why::Removed,
        "unknown" => Why::Unknown,
        "update under way" => Why::UpdateUnderWay,
        _ => return None,
    })
}

fn ended_by(words: &str) -> Option<EndedBy> {
    Some(match words {
        "worker gone" => EndedBy::WorkerGone,
        "lease ended" => EndedBy::LeaseEnded,
        "drain timed out" => EndedBy::DrainTimedOut,
        "linger timed out" => EndedBy::LingerTimedOut,
        "request timed out" => EndedBy::RequestTimedOut,
        "restarted" => EndedBy::Restarted,
        "operator" => EndedBy::Operator,
        "pool ending" => EndedBy::PoolEnding,
        _ => return None,
    })
}

fn fate(word: &str) -> Option<Fate> {
    Some(match word {
        "examined" => Fate::Examined,
        "dumped" => Fate::Dumped,
        "killed" => Fate::Killed,
        "recorded" => Fate::Recorded,
        _ => return None,
    })
}

fn is(word: &str) -> Option<Is> {
    Some(match word {
        "ready" => Is::Ready,
        "busy" => Is::Busy,
        "draining" => Is::Draining,
        "stopping" => Is::Stopping,
        "gone" => Is::Gone,
        _ => return None,
    })
}
