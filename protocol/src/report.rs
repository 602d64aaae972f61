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
    /// The report as text: problem, remedy, where it failed, output, and what the process was to be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.root, self.problem)?;
        writeln!(f, "{}", self.remedy)?;
        write!(f, "It failed while {}", self.step)?;
        if let Some(exit) = self.exit {
            write!(f, ", with {exit}")?;
        }
        f.write_str(".")?;
        if !self.output.is_empty() {
            write!(f, "\nIts last output was:\n{}", self.output.trim_end_matches('\n'))?;
        }
        if let Some(setup) = &self.setup {
            write!(f, "\nIt was to be:\n{setup}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Setup {
    /// A line for each of what is known, indented.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = Vec::new();
        for (name, value) in self.facts() {
            lines.push(format!("  {name}: {value}"));
        }
        for (title, pairs) in [("limits", &self.limits), ("environment", &self.environment)] {
            if !pairs.is_empty() {
                lines.push(format!("  {title}:"));
                lines.extend(pairs.iter().map(|(name, value)| format!("    {name}={}", one_line(value))));
            }
        }
        f.write_str(&lines.join("\n"))
    }
}

impl Setup {
    /// What is known in a word or a line each.
    fn facts(&self) -> impl Iterator<Item = (&'static str, String)> {
        let command = self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let facts = [("user", self.user.clone()), ("directory", self.directory.clone()), ("command", command)];
        facts.into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// A word of a command line, as a shell would read it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", one_line(&word.replace('\'', "'\\''")))
}

/// Without line breaks, which would look like further lines of the report.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}

/// The report for tools: its fields, and `error`, the sentence.
#[derive(Serialize)]
struct ForTools<'a> {
    error: &'a str,
    #[serde(flatten)]
    report: &'a SpawnReport,
}

impl SpawnReport {
    /// The report as a value that is written as JSON: all of its fields, and `error`, the sentence of the problem.
    pub fn for_tools(&self) -> impl Serialize {
        ForTools { error: &self.problem, report: self }
    }

    /// The report as an HTML page. Everything in it is escaped: it is safe to show, as far as its reader may
    /// know what the app printed.
    #[must_use]
    pub fn html(&self) -> String {
        const TITLE: &str = "The application could not be started";
        let mut page = format!("{HEAD}<title>{TITLE}</title>{STYLE}<h1>{TITLE}</h1>");
        let _ = write!(page, "<p><strong>{}</strong></p>", escape(&self.problem));
        // What is to be pasted keeps its lines.
        let _ = match self.remedy.trim_end().split_once('\n') {
            Some((first, rest)) => write!(page, "<p>{}</p><pre>{}</pre>", escape(first), escape(rest)),
            None => write!(page, "<p>{}</p>", escape(&self.remedy)),
        };
        page.push_str(AGAIN);
        page.push_str("<dl>");
        fact(&mut page, "Application", &self.root);
        fact(&mut page, "It failed while", &self.step.to_string());
        if let Some(exit) = self.exit {
            fact(&mut page, "It ended with", &exit.to_string());
        }
        for (name, value) in self.setup.iter().flat_map(|setup| setup.facts()) {
            fact(&mut page, name, &value);
        }
        page.push_str("</dl>");
        if !self.output.is_empty() {
            let _ = write!(page, "<h2>Its last output</h2><pre class=\"output\">{}</pre>", escape(&self.output));
        }
        if let Some(setup) = &self.setup {
            folded(&mut page, "Limits", &setup.limits);
            folded(&mut page, "Environment", &setup.environment);
        }
        page.push_str("</html>\n");
        page
    }
}

fn fact(page: &mut String, name: &str, value: &str) {
    let _ = write!(page, "<dt>{name}</dt><dd><code>{}</code></dd>", escape(value));
}

fn folded(page: &mut String, title: &str, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return;
    }
    let _ = write!(page, "<details><summary>{title}</summary><pre>");
    for (name, value) in pairs {
        let _ = writeln!(page, "{}={}", escape(name), escape(&one_line(value)));
    }
    page.push_str("</pre></details>");
}

/// How a page begins.
pub const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\">";

/// What pages look like, by day and by night.
pub const STYLE: &str = "<style>body{font:16px/1.6 system-ui,sans-serif;max-width:42em;margin:4em auto;padding:0 1em;\
    color:#222;background:#fcfcfa}h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}\
    code,pre{background:#f0efe9;border-radius:4px;padding:.1em .3em;overflow-wrap:anywhere}\
    pre{padding:.8em;overflow:auto}.output{max-height:30em}summary{cursor:pointer}\
    .button{display:inline-block;border:1px solid;border-radius:4px;padding:.2em 1em;text-decoration:none}\
    dt{float:left;clear:left;width:9em;color:#666}dd{margin-left:9em}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1a}code,pre{background:#2c2c2a}\
    a{color:#8ab4f8}dt{color:#999}}</style>";

/// An empty reference is the page's own address with its query; no script is needed.
pub const AGAIN: &str = "<p><a class=\"button\" href=\"\">Try again</a></p>";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> SpawnReport {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        SpawnReport {
            root: "/srv/<shop>".into(),
            step: SpawnStep::Load,
            problem: "`shop.py` has no <application>.".into(),
            remedy: "Add this:\napplication = make_app()".into(),
            output: "a line\n<b>another</b>\n".into(),
            exit: Some(Exit::Status(1)),
            setup: Some(Box::new(Setup {
                command: vec!["python3".into(), "a b.py".into()],
                directory: "/srv/shop".into(),
                user: "shop".into(),
                environment: vec![pair("LANG", "C\nfake: line"), pair("DATABASE_PASSWORD", "…")],
                limits: vec![pair("memory_max", "512M")],
            })),
        }
    }

    #[test]
    fn as_text_the_setup_stands_indented_after_the_output() {
        let text = report().to_string();
        assert_eq!(
            text,
            "/srv/<shop>: `shop.py` has no <application>.\n\
             Add this:\napplication = make_app()\n\
             It failed while loading the application, with exit status 1.\n\
             Its last output was:\na line\n<b>another</b>\n\
             It was to be:\n  user: shop\n  directory: /srv/shop\n  command: python3 'a b.py'\n\
             \x20 limits:\n    memory_max=512M\n\
             \x20 environment:\n    LANG=C\\nfake: line\n    DATABASE_PASSWORD=…"
        );
    }

    #[test]
    fn as_a_page_all_of_it_is_escaped_and_environment_and_limits_are_folded() {
        let page = report().html();
        for escaped in ["/srv/&lt;shop&gt;", "no &lt;application&gt;", "&lt;b&gt;another&lt;/b&gt;"] {
            assert!(page.contains(escaped), "{page}");
        }
        assert!(page.contains("<p>Add this:</p><pre>application = make_app()</pre>"), "{page}");
        assert!(page.contains("<details><summary>Environment</summary><pre>LANG="), "{page}");
        assert!(page.contains("<details><summary>Limits</summary><pre>memory_max=512M"), "{page}");
        assert!(!page.contains("<script") && page.contains("Try again"), "{page}");
    }
}
