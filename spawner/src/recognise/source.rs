//! What a Python file defines at its top level, without running it.

/// One statement, on one line, without its comments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// From 1.
    pub(super) line: usize,
    pub(super) indented: bool,
    pub(super) text: String,
}

/// A name that a statement makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) indented: bool,
    pub(super) by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The expression that is assigned.
    Value(String),
    Function {
        asynchronous: bool,
        /// As they are written.
        parameters: String,
    },
    Class,
    /// `from module import name`; with an empty `name`: `import module`.
    Import {
        module: String,
        name: String,
    },
}

/// The statements of a file. What is no Python gives statements that mean nothing.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut reader = Reader { rest: text, line: 1, statements: Vec::new(), open: None, depth: 0 };
    while let Some(c) = reader.rest.chars().next() {
        reader.take(c);
    }
    reader.end();
    reader.statements
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    statements: Vec<Statement>,
    open: Option<Statement>,
    /// Of brackets.
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, c: char) {
        match c {
            '#' => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
            '\'' | '"' => self.string(c),
            '\\' if self.rest[1..].starts_with('\n') => self.pass(2),
            '\n' if self.depth == 0 => {
                self.end();
                self.pass(1);
            }
            ';' if self.depth == 0 => {
                self.end();
                self.pass(1);
            }
            '\n' => {
                self.add(" ");
                self.pass(1);
            }
            _ => {
                match c {
                    '(' | '[' | '{' => self.depth += 1,
                    ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.add(c.encode_utf8(&mut [0; 4]));
                self.pass(c.len_utf8());
            }
        }
    }

    /// Takes a string with its quotes.
    fn string(&mut self, quote: char) {
        let triple: String = [quote; 3].iter().collect();
        let end = if self.rest.starts_with(&triple) { triple } else { quote.to_string() };
        let from = end.len();
        let mut at = from;
        let bytes = self.rest.as_bytes();
        while at < bytes.len() && !self.rest[at..].starts_with(&end) {
            // A plain string ends with its line at the latest.
            if bytes[at] == b'\n' && from == 1 {
                break;
            }
            at += if bytes[at] == b'\\' { 1 } else { 0 };
            at += self.rest.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        }
        let closed = self.rest.get(at..).is_some_and(|rest| rest.starts_with(&end));
        let len = (at + if closed { from } else { 0 }).min(self.rest.len());
        let text = self.rest[..len].replace('\n', " ");
        self.add(&text);
        self.pass(len);
    }

    fn add(&mut self, text: &str) {
        let line = self.line;
        match &mut self.open {
            Some(statement) => statement.text.push_str(text),
            None => {
                let indented = text.starts_with([' ', '\t']);
                self.open = Some(Statement { line, indented, text: text.into() });
            }
        }
    }

    fn pass(&mut self, len: usize) {
        self.line += self.rest[..len].matches('\n').count();
        self.rest = &self.rest[len..];
    }

    fn end(&mut self) {
        if let Some(mut statement) = self.open.take() {
            statement.text = statement.text.trim().to_owned();
            if !statement.text.is_empty() {
                self.statements.push(statement);
            }
        }
    }
}

/// The names that the statements make.
pub(super) fn definitions(statements: &[Statement]) -> Vec<Definition> {
    let mut found = Vec::new();
    for statement in statements {
        let made = function(&statement.text)
            .or_else(|| class(&statement.text))
            .map(|one| vec![one])
            .or_else(|| imported(&statement.text))
            .unwrap_or_else(|| assigned(&statement.text));
        let (line, indented) = (statement.line, statement.indented);
        found.extend(made.into_iter().map(|(name, by)| Definition { name, line, indented, by }));
    }
    found
}

/// The name that `text` begins with, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.starts_with(|c: char| c.is_alphabetic() || c == '_').then_some((name, rest.trim_start()))
}

fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.strip_prefix(word).filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim_start)
}

fn function(text: &str) -> Option<(String, By)> {
    let asynchronous = word(text, "async");
    let (name, rest) = name(word(asynchronous.unwrap_or(text), "def")?)?;
    let rest = rest.strip_prefix('(')?;
    // Brackets in what a parameter is unless it is given.
    let mut depth = 1;
    let end = rest.find(|c| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let parameters = rest[..end.unwrap_or(rest.len())].trim().to_owned();
    Some((name.to_owned(), By::Function { asynchronous: asynchronous.is_some(), parameters }))
}

fn class(text: &str) -> Option<(String, By)> {
    let (name, _) = name(word(text, "class")?)?;
    Some((name.to_owned(), By::Class))
}

fn imported(text: &str) -> Option<Vec<(String, By)>> {
    let part = |module: &str, part: &str| -> Option<(String, By)> {
        let mut words = part.split_whitespace();
        let (name, alias) = (words.next()?, words.nth(1));
        let (module, name) = if module.is_empty() { (name, "") } else { (module, name) };
        // `import a.b` makes `a`.
        let made = alias.unwrap_or(if name.is_empty() { module.split('.').next()? } else { name });
        Some((made.to_owned(), By::Import { module: module.to_owned(), name: name.to_owned() }))
    };
    if let Some(rest) = word(text, "import") {
        return Some(rest.split(',').filter_map(|text| part("", text)).collect());
    }
    let rest = word(text, "from")?;
    let (module, names) = rest.split_once(" import")?;
    let names = names.trim_matches([' ', '\t', '(', ')']);
    Some(names.split(',').filter_map(|text| part(module.trim(), text)).collect())
}

/// `a = b = value`, `a: T = value`.
fn assigned(text: &str) -> Vec<(String, By)> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = name(rest) {
        let after = match after.strip_prefix(':') {
            Some(annotated) => match annotated.split_once('=') {
                Some((_, value)) => value,
                None => break,
            },
            None => match after.strip_prefix('=').filter(|value| !value.starts_with('=')) {
                Some(value) => value,
                None => break,
            },
        };
        names.push(name.to_owned());
        rest = after.trim_start();
    }
    names.into_iter().map(|name| (name, By::Value(rest.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Vec<(String, usize, By)> {
        definitions(&statements(text)).into_iter().map(|one| (one.name, one.line, one.by)).collect()
    }

    fn value(text: &str) -> By {
        By::Value(text.into())
    }

    fn import(module: &str, name: &str) -> By {
        By::Import { module: module.into(), name: name.into() }
    }

    #[test]
    fn names_are_found_with_their_line() {
        let function = |asynchronous, parameters: &str| By::Function { asynchronous, parameters: parameters.into() };
        for (text, name, line, by) in [
            ("\napp = Flask(__name__)  # it\n", "app", 2, value("Flask(__name__)")),
            ("app: Flask = Flask()", "app", 1, value("Flask()")),
            ("app = application = F(\n  1,\n)", "application", 1, value("F(   1, )")),
            ("def app(environ, f=(1, 2)):\n  pass", "app", 1, function(false, "environ, f=(1, 2)")),
            ("async  def app(a): pass", "app", 1, function(true, "a")),
            ("class app(B):", "app", 1, By::Class),
            ("from a.b import c as app, d", "app", 1, import("a.b", "c")),
            ("from . import (\n x,\n app\n)", "app", 1, import(".", "app")),
            ("import a.b as app", "app", 1, import("a.b", "")),
            ("import a.b", "a", 1, import("a.b", "")),
            ("x = 1; app = 2", "app", 1, value("2")),
            ("x = \\\n  1\napp = 2", "app", 3, value("2")),
        ] {
            assert!(made(text).contains(&(name.into(), line, by.clone())), "{text}: {:?}", made(text));
        }
    }

    #[test]
    fn what_stands_in_strings_and_comments_is_none() {
        for text in
            ["'''\napp = 1\n'''", "\"\"\"a\\\"\"\"\napp = 1\n\"\"\"", "# app = 1", "x = (\napp == 1)", "app == 1"]
        {
            assert!(made(text).iter().all(|(name, ..)| name != "app"), "{text}: {:?}", made(text));
        }
        assert_eq!(made("x = 'it\\'s'\napp = 1")[1].0, "app");
    }

    #[test]
    fn what_is_indented_is_told_from_the_top_level() {
        let found = definitions(&statements("if x:\n    app = 1\napp = 2\n"));
        assert_eq!(found.iter().map(|one| one.indented).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn anything_can_be_read() {
        for text in
            ["'", "\"\"\"", "\\", "a\\", "'\\", "'é\\é", "def (", "from", "import ", "))", "=", "a:", "\u{0}\u{fffd}"]
        {
            let _ = made(text);
        }
    }
}
