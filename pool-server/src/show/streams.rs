//! What comes one after the other.

use super::moment;
use super::table::{Line, Look, Style};
use hatchery_protocol::events::{Level, PoolEvent};
use hatchery_protocol::status::OutputLine;

/// An event: when, how much it matters, its name, of whom, and a sentence.
#[must_use]
pub fn event(event: &PoolEvent, look: Look) -> String {
    let (level, style) = match event.level {
        Level::Debug => ("debug", Style::Faint),
        Level::Info => ("info", Style::Good),
        Level::Warn => ("warn", Style::Warning),
        Level::Error => ("error", Style::Bad),
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let fields = [
        ("app", event.app.clone()),
        ("tenant", event.tenant.clone()),
        ("worker", number(event.worker)),
        ("pid", event.pid.map(|pid| pid.to_string())),
        ("generation", number(event.generation)),
        ("session", number(event.session)),
        ("reason", event.reason.clone()),
    ];
    let said: String =
        fields.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!(" {name}={value}"))).collect();
    let line = Line::default().then(Style::Faint, &moment(event.at)).then(Style::Plain, " ").then(style, level);
    let line = line.then(Style::Head, &format!(" {}", event.event.name())).then(Style::Plain, &said);
    // The sentence stands last: a line that is cut would say nothing.
    line.then(Style::Plain, &format!(": {}", event.text)).draw(Look { width: None, ..look })
}

/// A line that an app printed: when, which process, and on which stream. Its tabs are kept.
#[must_use]
pub fn output(printed: &OutputLine, look: Look) -> String {
    let OutputLine { at, pid, stream, line, .. } = printed;
    let style = if stream == "stderr" { Style::Warning } else { Style::Plain };
    let head = Line::default().then(Style::Faint, &format!("{} {pid}", moment(*at)));
    let head =
        head.then(Style::Plain, " ").then(style, stream).then(Style::Plain, ":").draw(Look { width: None, ..look });
    // What an app printed is what is looked for: it is never cut.
    format!("{head} {}", super::printable(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::events::EventName;

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let ready = PoolEvent {
            number: 4,
            at: 1_795_719_600.123,
            event: EventName::WorkerReady,
            level: Level::Info,
            app: Some("shop".into()),
            root: Some("/srv/shop".into()),
            tenant: None,
            worker: Some(3),
            pid: Some(42),
            generation: Some(1),
            session: None,
            reason: None,
            text: "worker 3 is ready".into(),
        };
        assert_eq!(
            event(&ready, Look { colours: false, width: Some(20) }),
            "2026-11-26T19:00:00.123Z info worker_ready app=shop worker=3 pid=42 generation=1: worker 3 is ready"
        );
    }

    #[test]
    fn printed_lines_keep_their_tabs_and_command_no_terminal() {
        let line = OutputLine { number: 1, at: 0.0, pid: 42, stream: "stderr".into(), line: "a\tb\u{1b}[2J".into() };
        assert_eq!(output(&line, Look::PLAIN), "1970-01-01T00:00:00.000Z 42 stderr: a\tb\\u{1b}[2J");
    }
}
