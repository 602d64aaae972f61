//! Python applications: what has an `application` for a server to call.

use super::source::{self, By, Definition, Statement};
use super::{Result, Search, Sign};
use crate::manifest::{Kind, Manifest};
use std::path::{Path, PathBuf};

/// Files in the app's folder that are looked into; of the first three the name alone says that they hold an
/// application.
const FILES: [&str; 5] = ["passenger_wsgi.py", "wsgi.py", "asgi.py", "app.py", "main.py"];
const NAMED: usize = 3;
const SETTINGS: &str = "DJANGO_SETTINGS_MODULE";
/// Names that servers look for; the factory last.
const NAMES: [&str; 2] = ["application", "app"];
const FACTORY: &str = "create_app";
/// What other things are called `app`.
const NOT_WEB: [&str; 4] = ["Typer(", "Celery(", "QApplication(", "Tk("];
/// What is said of an interface where something is made, the first in the text counts.
const ASGI_WORDS: [&str; 8] =
    ["WsgiToAsgi(", "FastAPI(", "Starlette(", "Quart(", "Litestar(", "Sanic(", "ProtocolTypeRouter(", "asgi"];
const WSGI_WORDS: [&str; 6] = ["Flask(", "Bottle(", "falcon.App(", "Dispatcher(", "Configurator(", "wsgi"];
const ASGI_MODULES: [&str; 7] = ["fastapi", "starlette", "quart", "litestar", "sanic", "blacksheep", "channels"];
const WSGI_MODULES: [&str; 8] = ["flask", "bottle", "falcon", "pyramid", "werkzeug", "cherrypy", "webob", "wsgiref"];
/// Imports that are followed to see what is imported.
const FOLLOWED: u32 = 3;

/// Looks at Django's `manage.py`, which names the settings, beside which the application is.
pub(super) fn django(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let Some(file) = search.files.read("manage.py")? else { return Ok(None) };
    let Some((settings, line)) = settings(&file.text) else { return Ok(None) };
    // The package of the settings, or one above it where they are a package themselves.
    let mut package = settings.as_str();
    while let Some((above, _)) = package.rsplit_once('.') {
        package = above;
        let folder = package.replace('.', "/");
        for (name, kind) in [("wsgi", Kind::Wsgi), ("asgi", Kind::Asgi)] {
            if search.files.has(format!("{folder}/{name}.py")) {
                return Ok(Some(Sign {
                    start: Manifest::of_kind(kind, format!("{package}.{name}:application")),
                    what: "Django",
                    file: "manage.py".into(),
                    line: Some(line),
                    why: format!("names the settings {settings}, and {folder}/{name}.py is beside them"),
                    guess: false,
                }));
            }
        }
    }
    search
        .hints
        .push(format!("manage.py names the settings {settings}, and there is no wsgi.py or asgi.py beside them"));
    Ok(None)
}

/// The settings module that is named, and the line.
fn settings(text: &str) -> Option<(String, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find(SETTINGS).map(|at| from + at) {
        from = at + SETTINGS.len();
        let rest = text[from..].trim_start_matches(|c: char| c.is_whitespace() || "'\",=])".contains(c));
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
        let quoted = text[..text.len() - rest.len()].ends_with(['\'', '"']);
        let module = &rest[..end];
        if quoted && rest[end..].starts_with(['\'', '"']) && module.contains('.') && !module.starts_with('.') {
            return Some((module.to_owned(), text[..at].matches('\n').count() + 1));
        }
    }
    None
}

/// Looks into the files in the app's folder that usually hold an application.
pub(super) fn files(search: &mut Search<'_>) -> Result<Option<Sign>> {
    for (index, file) in FILES.into_iter().enumerate() {
        if !search.files.has(file) {
            continue;
        }
        let Some(module) = Module::read(search, Path::new(file))? else { continue };
        match module.application(index < NAMED) {
            Some(definition) => return sign(search, &module, definition, file, file).map(Some),
            None => search.hints.push(format!("{file} has no `application`, `app` or `create_app()` at its top level")),
        }
    }
    Ok(None)
}

/// Looks for the one package that has a `wsgi.py` or `asgi.py`.
pub(super) fn package(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let packages = search.files.names().into_iter().filter(|name| is_name(name));
    let packages: Vec<_> = packages.filter(|name| !search.files.has(format!("{name}/pyvenv.cfg"))).collect();
    for server in ["wsgi", "asgi"] {
        let mut having = packages.iter().filter(|package| search.files.has(format!("{package}/{server}.py")));
        let package = match (having.next(), having.next()) {
            (Some(only), None) => only,
            (Some(one), Some(other)) => {
                search.hints.push(format!("both {one} and {other} have a {server}.py: name one as the `entry`"));
                continue;
            }
            (None, _) => continue,
        };
        let file = format!("{package}/{server}.py");
        let Some(module) = Module::read(search, Path::new(&file))? else { continue };
        match module.application(true) {
            Some(definition) => {
                return sign(search, &module, definition, &file, &format!("{package}.{server}")).map(Some);
            }
            None => search.hints.push(format!("{file} has no `application` or `app`")),
        }
    }
    Ok(None)
}

fn sign(search: &Search<'_>, module: &Module, definition: &Definition, file: &str, entry: &str) -> Result<Sign> {
    let found = module.interface(search, definition, FOLLOWED)?;
    let kind = found.unwrap_or(if file.ends_with("asgi.py") { Kind::Asgi } else { Kind::Wsgi });
    let call = if definition.name == FACTORY { "()" } else { "" };
    Ok(Sign {
        start: Manifest::of_kind(kind, format!("{entry}:{}{call}", definition.name)),
        what: if kind == Kind::Asgi { "Python, ASGI" } else { "Python, WSGI" },
        file: file.into(),
        line: Some(definition.line),
        why: format!("has `{}{call}` at its top level", definition.name),
        guess: false,
    })
}

/// A Python file of the app's.
struct Module {
    /// Relative to the app's folder.
    file: PathBuf,
    statements: Vec<Statement>,
    definitions: Vec<Definition>,
}

impl Module {
    fn read(search: &Search<'_>, file: &Path) -> Result<Option<Self>> {
        let Some(read) = search.files.read(file)? else { return Ok(None) };
        let statements = source::statements(&read.text);
        let definitions = source::definitions(&statements);
        Ok(Some(Self { file: file.into(), statements, definitions }))
    }

    /// What a server is to call. `named`: the file's name says that there is an application; then it may be made
    /// in a `try` or an `if`.
    fn application(&self, named: bool) -> Option<&Definition> {
        let is_other = |by: &By| match by {
            By::Value(value) => NOT_WEB.iter().any(|word| value.contains(word)),
            // A module can't be called.
            By::Import { name, .. } => name.is_empty(),
            By::Function { .. } | By::Class => false,
        };
        let fits = |name: &str, indented: bool| {
            let mut found = self.definitions.iter().rev();
            found.find(|one| one.name == name && one.indented == indented && !is_other(&one.by))
        };
        let at_top = NAMES.iter().find_map(|name| fits(name, false));
        let factory = || {
            fits(FACTORY, false).filter(|one| match &one.by {
                By::Function { parameters, .. } => can_be_left_out(parameters),
                By::Value(_) | By::Class | By::Import { .. } => false,
            })
        };
        at_top.or_else(factory).or_else(|| fits(NAMES[0], true).filter(|_| named))
    }

    /// Which interface it has, as far as the text says it.
    fn interface(&self, search: &Search<'_>, definition: &Definition, follow: u32) -> Result<Option<Kind>> {
        let said = match &definition.by {
            By::Function { asynchronous, parameters }
                if definition.name != FACTORY && NAMES.contains(&&*definition.name) =>
            {
                let asgi = *asynchronous || parameters.starts_with("scope");
                Some(if asgi { Kind::Asgi } else { Kind::Wsgi })
            }
            By::Function { .. } | By::Class => evidence(&self.body(definition)),
            By::Value(value) => match evidence(value) {
                Some(kind) => Some(kind),
                None => self.interface_of_call(search, value, definition, follow)?,
            },
            By::Import { module, name } => self.interface_of_import(search, module, name, follow)?,
        };
        Ok(said.or_else(|| self.imports()))
    }

    /// Of `create_app()`, what that makes.
    fn interface_of_call(
        &self,
        search: &Search<'_>,
        value: &str,
        made: &Definition,
        follow: u32,
    ) -> Result<Option<Kind>> {
        let end = value.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(value.len());
        match self.definitions.iter().rev().find(|one| one.name == value[..end] && *one != made) {
            Some(called) if follow > 0 && called.name != made.name => self.followed(search, called, follow),
            Some(_) | None => Ok(None),
        }
    }

    fn followed(&self, search: &Search<'_>, called: &Definition, follow: u32) -> Result<Option<Kind>> {
        match &called.by {
            By::Import { module, name } => self.interface_of_import(search, module, name, follow),
            By::Function { .. } | By::Class => Ok(evidence(&self.body(called))),
            By::Value(_) => self.interface(search, called, follow - 1),
        }
    }

    fn interface_of_import(&self, search: &Search<'_>, module: &str, name: &str, follow: u32) -> Result<Option<Kind>> {
        if follow == 0 {
            return Ok(None);
        }
        for file in self.files_of(module) {
            let Some(module) = Self::read(search, &file)? else { continue };
            return match module.definitions.iter().rev().find(|one| one.name == name) {
                Some(definition) => module.interface(search, definition, follow - 1),
                None => Ok(module.imports()),
            };
        }
        Ok(None)
    }

    /// Where a module that is imported here may be.
    fn files_of(&self, module: &str) -> [PathBuf; 2] {
        let name = module.trim_start_matches('.');
        let up = module.len() - name.len();
        // One dot is the file's own folder.
        let base = if up == 0 { Path::new("") } else { self.file.ancestors().nth(up).unwrap_or(Path::new("")) };
        let path = base.join(name.replace('.', "/"));
        [path.with_extension("py"), path.join("__init__.py")]
    }

    /// What stands in a function or class.
    fn body(&self, definition: &Definition) -> String {
        let after = self.statements.iter().skip_while(|statement| statement.line <= definition.line);
        let body = after.take_while(|statement| statement.indented);
        body.map(|statement| format!("{}\n", statement.text)).collect()
    }

    /// What the modules that it imports are for.
    fn imports(&self) -> Option<Kind> {
        let mut roots = self.definitions.iter().filter_map(|one| match &one.by {
            By::Import { module, .. } => module.split('.').next(),
            By::Value(_) | By::Function { .. } | By::Class => None,
        });
        roots.find_map(|root| {
            let known = |modules: &[&str]| modules.contains(&root);
            if known(&ASGI_MODULES) { Some(Kind::Asgi) } else { known(&WSGI_MODULES).then_some(Kind::Wsgi) }
        })
    }
}

/// Whether a function can be called without arguments.
fn can_be_left_out(parameters: &str) -> bool {
    parameters.split(',').all(|one| one.trim().is_empty() || one.contains('=') || one.trim_start().starts_with('*'))
}

/// Which interface an expression speaks of first.
fn evidence(text: &str) -> Option<Kind> {
    let lower = text.to_lowercase();
    let first = |words: &[&str]| {
        let found = words.iter().filter_map(|word| lower.find(&word.to_lowercase()));
        found.min().unwrap_or(usize::MAX)
    };
    match (first(&ASGI_WORDS), first(&WSGI_WORDS)) {
        (usize::MAX, usize::MAX) => None,
        (asgi, wsgi) if asgi <= wsgi => Some(Kind::Asgi),
        _ => Some(Kind::Wsgi),
    }
}
