//! What is said of a worker that could not be started.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnReport {
    /// The app's root, as text.
    pub root: String,
    pub step: SpawnStep,
    /// One sentence: what went wrong.
    pub problem: String,
    /// One sentence: what to do about it. May be several lines where it shows a file to paste.
    pub remedy: String,
    /// The last of what the worker wrote, standard output and error together.
    pub output: String,
    pub exit: Option<Exit>,
    /// What the process was to be; `None`: it is not known yet.
    pub setup: Option<Box<Setup>>,
}

/// What a process was to be: what somebody who wants to start it by hand needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub command: Vec<String>,
    pub directory: String,
    /// Whom it was to run as.
    pub user: String,
    /// With the values of what may be secret hidden.
    pub environment: Vec<(String, String)>,
    /// Limits that are not as the pool's, by the names of their keys.
    pub limits: Vec<(String, String)>,
}

/// How far a start came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpawnStep {
    /// Looking into the app's root.
    Inspect,
    /// Making sockets, pipes and the process.
    Prepare,
    /// Executing the start command.
    Execute,
    /// Loading the application, by one of our loaders.
    Load,
    /// Forking a worker from the process that has the application loaded.
    Fork,
    /// Waiting for the worker to be ready.
    Ready,
    /// Exchanging the app's files for another version of them.
    Update,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl std::fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inspect => "looking into the application's folder",
            Self::Prepare => "preparing the process",
            Self::Execute => "executing the start command",
            Self::Load => "loading the application",
            Self::Fork => "forking a worker from its preloader",
            Self::Ready => "waiting for the worker to be ready",
            Self::Update => "exchanging the application's files",
        })
    }
}

impl std::fmt::Display for SpawnReport {
    /// The report as text: problem, remedy, where it failed, output.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.root, self.problem)?;
        writeln!(f, "{}", self.remedy)?;
        write!(f, "It failed while {}", self.step)?;
        if let Some(exit) = self.exit {
            write!(f, ", with {exit}")?;
        }
        f.write_str(".")?;
        if !self.output.is_empty() {
            write!(f, "\nIts last output was:\n{}", self.output)?;
        }
        Ok(())
    }
}

impl SpawnReport {
    /// The report as an HTML page. Everything in it is escaped: it is safe to show, as far as its reader may
    /// know what the app printed.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::from(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>The application could not be started</title>\
             <style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
             pre{background:#f4f4f4;padding:1em;overflow:auto;white-space:pre-wrap}</style></head><body>\
             <h1>The application could not be started</h1>",
        );
        let _ = write!(page, "<p><b>{}</b></p>", escape(&self.problem));
        let _ = write!(page, "<pre>{}</pre>", escape(&self.remedy));
        let _ =
            write!(page, "<dl><dt>Root</dt><dd>{}</dd><dt>Failed while</dt><dd>{}</dd>", escape(&self.root), self.step);
        if let Some(exit) = self.exit {
            let _ = write!(page, "<dt>Ended with</dt><dd>{exit}</dd>");
        }
        page.push_str("</dl>");
        if !self.output.is_empty() {
            let _ = write!(page, "<h2>Output</h2><pre>{}</pre>", escape(&self.output));
        }
        page.push_str("</body></html>\n");
        page
    }
}

/// `text` for HTML, in content and in quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
