//! What can be said, for a person.

/// How a command is written, and what it does: a line each, or more.
pub(super) const HELP: &[(&str, &[&str])] = &[
    ("status [APP]", &["what runs, where, how busy, and what did not leave in peace"]),
    ("json COMMAND", &["any command, answered by one line of JSON; a name with blanks stands in \"quotes\""]),
    ("list", &["the applications: name, root, state, and whether they stay when nobody uses them"]),
    ("sessions [APP]", &["who holds which session at which worker, for how long, and what it does"]),
    ("events [json] [N]", &["the last N events, and then all that happen, until another line comes"]),
    (
        "logs APP [N] [follow] [json]",
        &["the last N lines (100) that an application printed; follow: and all that it prints"],
    ),
    ("metrics", &["what was counted since the pool's core began"]),
    (
        "restart APP [MODE]",
        &[
            "graceful (kind): new workers first, then the old ones drain; kill: old ones end at once;",
            "APP: its root, or the end of it; answers when the new workers serve, or can't",
        ],
    ),
    ("deploy APP", &["takes the version that lies beside it as NAME.update, and answers with the verdict"]),
    ("rollback APP", &["goes back to the version before"]),
    ("stop APP", &["its workers drain, and it refuses until it is started; it stays registered"]),
    ("start APP", &["serve it again"]),
    (
        "add ROOT [KEY=VALUE …]",
        &["registers an application, or says its options anew; a list is one KEY=VALUE for each word"],
    ),
    ("remove APP", &["its workers drain, and it is known no more"]),
    ("disable APP [REASON]", &["new sessions are refused, workers stay"]),
    ("enable APP", &["serve it again, whatever failed before"]),
    (
        "set [APP] KEY=VALUE",
        &[
            "one setting of an application, of [defaults] or of [pool]; VALUE is the rest of the line, without quotes,",
            "and of a list its words; KEY= takes a setting away again, so that [defaults] or the default holds",
        ],
    ),
    ("get [APP] [KEY]", &["the settings that hold, and where each comes from"]),
    ("retire WORKER|PID", &["drain a worker and end it"]),
    ("end SESSION", &["ends a session at once; its worker leaves, unless it serves any number of them at a time"]),
    ("clear", &["every worker is replaced by a fresh one; open sessions go on"]),
    ("reload", &["reads the configuration again"]),
    ("shutdown", &["ends the web server and the pool: open requests are served, new ones are not"]),
    ("help", &["this"]),
    ("quit", &["closes this connection"]),
];

/// Aligned.
pub(super) fn lines() -> Vec<String> {
    let width = HELP.iter().map(|(usage, _)| usage.chars().count()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for (usage, texts) in HELP {
        for (place, text) in texts.iter().enumerate() {
            let usage = if place == 0 { usage } else { "" };
            lines.push(format!("{usage:width$}  {text}"));
        }
    }
    lines
}
