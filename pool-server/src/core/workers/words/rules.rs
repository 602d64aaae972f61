//! The rules, the surest first.

use super::super::reports::{Cause, memory_remedy};
use super::{Line, between, quoted};
use hatchery_protocol::link::Listen;
use hatchery_protocol::report::Exit;

/// How far above an error the place of it is printed, in lines.
const PLACE: usize = 8;
/// What shells exit with when they can't execute a command, and when there is none.
const NOT_EXECUTABLE: Exit = Exit::Status(126);
const NOT_FOUND: Exit = Exit::Status(127);

pub(super) struct Rule {
    pub(super) says: fn(&Line<'_>) -> Option<Cause>,
    /// It holds for so many telling lines of the end.
    pub(super) within: usize,
    /// Also of what ended by a signal.
    pub(super) of_signals: bool,
}

const fn rule(within: usize, says: fn(&Line<'_>) -> Option<Cause>) -> Rule {
    Rule { says, within, of_signals: false }
}

/// What is worded so that nothing else can be meant may stand further up: servers print their own farewell.
pub(super) const RULES: [Rule; 13] = [
    Rule { says: memory, within: 12, of_signals: true },
    rule(12, python_module),
    rule(12, python_file),
    rule(12, python_syntax),
    rule(12, node_module),
    rule(12, node_syntax),
    rule(12, ruby_file),
    rule(12, ruby_gem),
    rule(12, ruby_syntax),
    rule(12, php_syntax),
    rule(6, taken),
    rule(3, not_found),
    rule(3, forbidden),
];

fn memory(line: &Line<'_>) -> Option<Cause> {
    let text = line.text;
    let php = between(text, "Allowed memory size of ", " bytes exhausted");
    if let Some(bytes) = php {
        return Some(Cause::new(
            format!("PHP needed more memory than its memory_limit of {bytes} bytes"),
            "Raise memory_limit in php.ini, or make it need less.",
        ));
    }
    if text.contains("JavaScript heap out of memory") {
        return Some(Cause::new(
            "Node needed more memory than its heap may have",
            format!(
                "Raise it (NODE_OPTIONS = \"--max-old-space-size=MEGABYTES\" in [env]). {}",
                memory_remedy(line.last.setup)
            ),
        ));
    }
    let exact = text == "MemoryError" || text.starts_with("MemoryError: ");
    let known = ["std::bad_alloc", "Cannot allocate memory", "(NoMemoryError)", "memory allocation of "];
    (exact || known.iter().any(|words| text.contains(words)))
        .then(|| Cause::new(format!("it got no more memory: {}", line.quoted()), memory_remedy(line.last.setup)))
}

// ── Python ──────────────────────────────────────────────────────────────────────────────────────────

fn python_module(line: &Line<'_>) -> Option<Cause> {
    let imported =
        line.text.strip_prefix("ModuleNotFoundError: No module named '").and_then(|rest| rest.strip_suffix('\''));
    // `python3 -m gunicorn`
    let run = line.text.split_once(": No module named ").filter(|(program, _)| is_python(program));
    let module = imported.or(run.map(|(_, module)| module.trim_matches('\'')))?;
    let asked =
        imported.and_then(|_| python_place(line)).map(|(file, at)| format!(", which {file} imports in line {at}"));
    Some(Cause::new(
        format!("Python has no module {module}{}", asked.unwrap_or_default()),
        "Install the package that holds it for the Python that is started (`pip install` in the application's virtual \
         environment), or start the Python that has it.",
    ))
}

fn is_python(program: &str) -> bool {
    !program.contains(' ') && program.rsplit('/').next().is_some_and(|name| name.starts_with("python"))
}

fn python_file(line: &Line<'_>) -> Option<Cause> {
    let file = between(line.text, ": can't open file '", "': [Errno 2]")?;
    Some(no_file("Python", file))
}

fn python_syntax(line: &Line<'_>) -> Option<Cause> {
    let (kind, what) = line.text.split_once(": ")?;
    if !["SyntaxError", "IndentationError", "TabError"].contains(&kind) {
        return None;
    }
    let (file, at) = python_place(line)?;
    Some(syntax(file, at, what, "or start it with the Python that it is written for"))
}

/// `  File "/srv/shop/app.py", line 3`: the last before the line that is one of a file.
fn python_place<'a>(line: &Line<'a>) -> Option<(&'a str, &'a str)> {
    let place = |text: &'a str| {
        let (file, rest) = text.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let at = rest.split(',').next()?;
        (!file.starts_with('<')).then_some((file, at))
    };
    line.before.iter().rev().take(PLACE).find_map(|text| place(text))
}

// ── Node ────────────────────────────────────────────────────────────────────────────────────────────

fn node_module(line: &Line<'_>) -> Option<Cause> {
    let said = line.text.strip_prefix("Error: ").or(line.text.strip_prefix("Error [ERR_MODULE_NOT_FOUND]: "))?;
    let said = said.strip_prefix("Cannot find module '").or(said.strip_prefix("Cannot find package '"))?;
    let (module, rest) = said.split_once('\'')?;
    let required = || line.after.iter().take(2).find_map(|text| text.strip_prefix("- "));
    let by = rest.strip_prefix(" imported from ").or_else(required);
    let by = by.map(|file| format!(", which {file} asks for")).unwrap_or_default();
    if module.starts_with(['/', '.']) {
        return Some(Cause::new(
            format!("Node finds no file {module}{by}"),
            "Correct its name where it is named: in the start command, in package.json, or in the file that asks for it.",
        ));
    }
    let parts = if module.starts_with('@') { 2 } else { 1 };
    let package = module.splitn(parts + 1, '/').take(parts).collect::<Vec<_>>().join("/");
    Some(Cause::new(
        format!("Node finds no module {module}{by}"),
        format!(
            "Run `npm install` in the application's folder, or `npm install {package}` if its package.json does not name it."
        ),
    ))
}

fn node_syntax(line: &Line<'_>) -> Option<Cause> {
    let what = line.text.strip_prefix("SyntaxError: ")?;
    let (file, at) = line.before.iter().rev().take(PLACE).find_map(|text| node_place(text))?;
    if what.starts_with("Cannot use import statement outside a module") {
        return Some(Cause::new(
            format!("{file} uses `import` in line {at}, and Node takes it for a CommonJS module"),
            "Say `\"type\": \"module\"` in package.json, or name the file .mjs.",
        ));
    }
    Some(syntax(file, at, what, "or start it with the version of Node that it is written for"))
}

/// `/srv/shop/server.js:3`, `file:///srv/shop/server.mjs:3`
fn node_place(text: &str) -> Option<(&str, &str)> {
    let (file, at) = text.strip_prefix("file://").unwrap_or(text).rsplit_once(':')?;
    let is_number = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
    (file.starts_with('/') && is_number).then_some((file, at))
}

// ── Ruby ────────────────────────────────────────────────────────────────────────────────────────────

fn ruby_file(line: &Line<'_>) -> Option<Cause> {
    if let Some(file) = between(line.text, "No such file or directory -- ", " (LoadError)") {
        return Some(no_file("Ruby", file));
    }
    let name = between(line.text, "cannot load such file -- ", " (LoadError)")?;
    if name.starts_with(['/', '.']) {
        return Some(Cause::new(
            format!("Ruby finds no file {name}"),
            "Correct the `require` that names it, or put the file there.",
        ));
    }
    Some(Cause::new(
        format!("Ruby finds no file or gem that holds {name}"),
        "Put its gem into the Gemfile and run `bundle install` in the application's folder, or install it for the Ruby \
         that is started (`gem install`).",
    ))
}

fn ruby_gem(line: &Line<'_>) -> Option<Cause> {
    let text = line.text;
    let named = between(text, "Could not find gem '", "'");
    let listed = || {
        let (_, rest) = text.split_once("Could not find ")?;
        let (gem, place) = rest.split_once(" in ")?;
        ["locally installed gems", "any of the sources"].iter().any(|known| place.starts_with(known)).then_some(gem)
    };
    let run = || text.strip_prefix("bundler: command not found: ");
    let gem = named.or_else(listed).or_else(run)?;
    Some(Cause::new(
        format!("the gem {} is not installed", quoted(gem)),
        "Run `bundle install` in the application's folder, as the user that it runs as, with the Ruby that is started.",
    ))
}

fn ruby_syntax(line: &Line<'_>) -> Option<Cause> {
    let (place, what) = line.text.split_once(": syntax error")?;
    let (file, at) = place.rsplit(": ").next()?.rsplit_once(':')?;
    let is_number = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
    let what = what.trim_end_matches(" (SyntaxError)").trim_start_matches(", ");
    // Newer ones show what it is below.
    let what = if ["", "s found", " found"].contains(&what) { "see its last output" } else { what };
    is_number.then(|| syntax(file, at, what, "or start it with the Ruby that it is written for"))
}

// ── PHP ─────────────────────────────────────────────────────────────────────────────────────────────

fn php_syntax(line: &Line<'_>) -> Option<Cause> {
    let said = line.text.strip_prefix("PHP ").unwrap_or(line.text).strip_prefix("Parse error: ")?;
    let (said, at) = said.rsplit_once(" on line ")?;
    let (what, file) = said.rsplit_once(" in ")?;
    let what = what.trim_start().trim_start_matches("syntax error, ");
    Some(syntax(file, at, what, "or start it with the PHP that it is written for"))
}

// ── the system ──────────────────────────────────────────────────────────────────────────────────────

fn taken(line: &Line<'_>) -> Option<Cause> {
    let text = line.text;
    let said = ["ddress already in use", "EADDRINUSE"].iter().any(|words| text.contains(words));
    said.then(|| {
        Cause::new(
            format!("an address that it wants to listen at is taken: {}", line.quoted()),
            own_address(line.last.listen),
        )
    })
}

/// What a worker must do that listens at an address of its own choice.
pub(in super::super) fn own_address(listen: Listen) -> &'static str {
    match listen {
        Listen::Fd => {
            "Let it listen at the socket that it inherits, descriptor 3 (LISTEN_FDS=1), or say listen = \"port\" in \
             hatchery.toml and let it listen at the port in PORT or {port}, which is another one for each worker."
        }
        Listen::Stdin => "Let it listen at the socket that is its standard input, and not at an address of its own.",
        Listen::Port => {
            "Let it listen at the port in PORT, or {port} in its command, and at no other: it is another one for each \
             worker."
        }
        Listen::Socket => "Let it listen at the path {socket} in its command, and at no address of its own.",
    }
}

fn not_found(line: &Line<'_>) -> Option<Cause> {
    if line.last.exit != NOT_FOUND {
        return None;
    }
    let text = line.text;
    let bash = || text.strip_suffix(": command not found");
    let others = || text.strip_suffix(": not found").or(text.strip_suffix(": No such file or directory"));
    let zsh = text.split_once(": command not found: ").map(|(_, command)| command);
    let command = zsh.or_else(bash).or_else(others)?.rsplit(": ").next()?;
    let command = command.trim_matches(['\'', '"', '‘', '’']);
    let path = line.last.setup.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, path)| format!(" ({path})")).unwrap_or_default();
    let problem = if command.contains('/') {
        format!("its start command runs {command}, which is not there")
    } else {
        format!("its start command runs {command}, which is not on its PATH{path}")
    };
    Some(Cause::new(problem, "Install it, write its full path, or set PATH in [env] of hatchery.toml."))
}

fn forbidden(line: &Line<'_>) -> Option<Cause> {
    let text = line.text;
    let sure = text.starts_with("PermissionError: ") || text.contains("(Errno::EACCES)") || text.contains("EACCES: ");
    let by_a_shell = line.last.exit == NOT_EXECUTABLE && text.ends_with(": Permission denied");
    let last = line.after.is_empty() && text.to_ascii_lowercase().ends_with("permission denied");
    if !(sure || by_a_shell || last) {
        return None;
    }
    let problem = format!("it may not do what it wants: {}", line.quoted());
    // A low port.
    if ["listen ", "bind"].iter().any(|words| text.contains(words)) {
        return Some(Cause::new(problem, own_address(line.last.listen)));
    }
    let user = Some(line.last.setup.user.as_str()).filter(|user| !user.is_empty());
    let user = user.map_or_else(|| "the user that it runs as".to_owned(), |user| format!("{user}, as whom it runs,"));
    let what = if by_a_shell { "execute" } else { "use" };
    Some(Cause::new(problem, format!("Let {user} {what} it (`chown`, `chmod`), or keep it elsewhere.")))
}

fn no_file(who: &str, file: &str) -> Cause {
    Cause::new(
        format!("{who} finds no file {file}"),
        "Correct the start command; a path in it is seen from the application's folder.",
    )
}

fn syntax(file: &str, at: &str, what: &str, or: &str) -> Cause {
    Cause::new(format!("{file} has a syntax error in line {at}: {}", quoted(what)), format!("Correct that line, {or}."))
}
