//! `pool.toml`, the operator's file: `[pool]`, `[defaults]`, one `[[app]]` per application.

use super::mistake::{Home, Mistake, Position, Problem, Problems, Table};
use super::settings;
use super::tenants;
use super::value::{type_of, words};
use crate::serve::router::{self, Route};
use hatchery_protocol::config::{PoolOptions, TenantConfig, TenantOptions};
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::root::normalised;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Of `[[app]]` alone.
const APP_KEYS: [&str; 4] = ["host", "path", "root", "name"];
/// A table of variables, in `[defaults]` and `[[app]]`.
const ENV: &str = "env";
const TABLES: [&str; 4] = ["pool", "defaults", "tenant", "app"];
/// Of `[[tenant]]` alone.
const TENANT_NAME: &str = "name";
/// What an application's owner says in its `hatchery.toml`, bar what the operator may say too.
const MANIFEST_KEYS: [&str; 5] = ["command", "protocol", "ready", "type", "entry"];
/// More than any operator writes.
const LONGEST: u64 = 16 << 20;

/// What the file says. Paths in it are absolute: relative ones are taken from the file's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperatorsFile {
    pub(crate) pool: PoolOptions,
    pub(crate) defaults: AppOptions,
    pub(crate) tenants: Vec<TenantConfig>,
    pub(crate) apps: Vec<FileApp>,
}

/// One `[[app]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileApp {
    pub(crate) host: Option<String>,
    /// As [`Route`] has it.
    pub(crate) prefix: String,
    pub(crate) root: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) options: AppOptions,
    root_at: Position,
    at: Position,
}

impl OperatorsFile {
    /// Reads and judges the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, applications that are not there included.
    pub(crate) fn read(path: &Path) -> Result<Self, Problems> {
        let unread = |why: String| Problems::unread(path, why);
        let full = std::path::absolute(path).map_err(|error| unread(error.to_string()))?;
        match std::fs::metadata(&full) {
            Ok(found) if !found.is_file() => return Err(unread("is no file".to_owned())),
            Ok(found) if found.len() > LONGEST => return Err(unread(format!("is longer than {LONGEST} bytes"))),
            Ok(_) => {}
            Err(error) => return Err(unread(format!("can't be read: {error}"))),
        }
        let text = std::fs::read_to_string(&full).map_err(|error| unread(format!("can't be read: {error}")))?;
        let folder = full.parent().unwrap_or(Path::new("/"));
        let file = Self::parse(&text, folder).map_err(|list| Problems::new(path, list))?;
        let missing = file.apps.iter().filter(|app| settings::nothing_at(&app.root));
        let missing = missing.map(|app| {
            let root = app.root.clone();
            Problem { at: app.root_at, what: Mistake::NothingThere { root } }
        });
        match missing.collect::<Vec<_>>() {
            missing if missing.is_empty() => Ok(file),
            missing => Err(Problems::new(path, missing)),
        }
    }

    /// Judges what the file says, but looks at nothing else.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { text, folder, problems: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            reader.complain(error.span().unwrap_or(0..0), Mistake::Toml(message));
        }
        // What is left of a file that is no TOML says things that nobody meant.
        let file = if reader.problems.is_empty() { reader.file(table.get_ref()) } else { Self::default() };
        if reader.problems.is_empty() { Ok(file) } else { Err(reader.problems) }
    }
}

struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    problems: Vec<Problem>,
}

type Entry<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

impl Reader<'_> {
    fn complain(&mut self, at: Range<usize>, what: Mistake) {
        let at = Position::of(self.text, at.start);
        self.problems.push(Problem { at, what });
    }

    fn file(&mut self, table: &DeTable<'_>) -> OperatorsFile {
        let mut file = OperatorsFile::default();
        let mut entries: Vec<Entry<'_, '_>> = table.iter().collect();
        // What applications say is judged together with the defaults, and that with the tenants.
        entries.sort_by_key(|(key, _)| !["pool", "tenant"].contains(&key.get_ref().as_ref()));
        entries.sort_by_key(|(key, _)| key.get_ref() == "app");
        for (key, value) in entries {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("pool", DeValue::Table(table)) => file.pool = self.pool(table),
                ("defaults", DeValue::Table(table)) => {
                    file.defaults = self.defaults(table, value.span());
                    self.tenant_of(&file.defaults, &file, table, value.span());
                }
                ("tenant", DeValue::Array(tenants)) => self.tenants(tenants, &mut file),
                ("app", DeValue::Array(apps)) => {
                    for app in apps.iter() {
                        match app.get_ref() {
                            DeValue::Table(table) => {
                                let read = self.app(table, app.span(), &file.defaults);
                                if let Some(app_read) = &read {
                                    self.tenant_of(&app_read.options, &file, table, app.span());
                                }
                                file.apps.extend(read);
                            }
                            other => self.wrong_type(app.span(), "app", "a table", type_of(other)),
                        }
                    }
                }
                ("app", other) => {
                    self.wrong_type(key.span(), "app", "written [[app]], in double brackets", type_of(other));
                }
                ("tenant", other) => {
                    self.wrong_type(key.span(), "tenant", "written [[tenant]], in double brackets", type_of(other));
                }
                (name @ ("pool" | "defaults"), other) => {
                    self.wrong_type(key.span(), name, "a table, in brackets", type_of(other));
                }
                _ => self.stray(key, Table::Top),
            }
        }
        self.apps_together(&file);
        file
    }

    fn wrong_type(&mut self, at: Range<usize>, key: &str, expected: &'static str, found: &'static str) {
        self.complain(at, Mistake::Type { key: key.to_owned(), expected, found });
    }

    fn pool(&mut self, table: &DeTable<'_>) -> PoolOptions {
        let mut options = PoolOptions::default();
        for entry in table {
            let Some(key) = key_of(PoolOptions::KEYS, entry.0.get_ref()) else {
                self.stray(entry.0, Table::Pool);
                continue;
            };
            let folder = self.folder;
            // Alone first: each sentence is told where its key stands, and once.
            let mut alone = PoolOptions::default();
            if self.set(key, entry, |words| alone.set(key.name, &settings::anchored(key.name, words, folder)?)) {
                if let Err(why) = settings::check_pool(&alone) {
                    self.complain(entry.1.span(), Mistake::Senseless(why));
                }
                options = alone.keys_over(&options);
            }
        }
        options
    }

    fn tenants(&mut self, tenants: &DeArray<'_>, file: &mut OperatorsFile) {
        let mut lines: HashMap<String, usize> = HashMap::new();
        for tenant in tenants.iter() {
            let DeValue::Table(table) = tenant.get_ref() else {
                self.wrong_type(tenant.span(), "tenant", "a table", type_of(tenant.get_ref()));
                continue;
            };
            let Some(read) = self.tenant(table, tenant.span()) else { continue };
            let line = Position::of(self.text, tenant.span().start).line;
            match lines.insert(read.name.clone(), line) {
                Some(line) => self.complain(tenant.span(), Mistake::TakenTenant { name: read.name, line }),
                None => file.tenants.push(read),
            }
        }
    }

    /// `None`: it has no name, and that was told.
    fn tenant(&mut self, table: &DeTable<'_>, whole: Range<usize>) -> Option<TenantConfig> {
        let mut options = TenantOptions::default();
        let mut name = None;
        for entry in table {
            match (key_of(TenantOptions::KEYS, entry.0.get_ref()), entry.1.get_ref()) {
                (Some(key), _) => {
                    let mut alone = TenantOptions::default();
                    if self.set(key, entry, |words| alone.set(key.name, words)) {
                        if let Err(why) = tenants::check(&alone) {
                            self.complain(entry.1.span(), Mistake::Senseless(why));
                        }
                        options = alone.keys_over(&options);
                    }
                }
                (None, DeValue::String(text)) if entry.0.get_ref() == TENANT_NAME => {
                    if !settings::is_word(text) {
                        let why = "`name` of a [[tenant]] has to be one word".to_owned();
                        self.complain(entry.1.span(), Mistake::Senseless(why));
                    }
                    name = Some(text.to_string());
                }
                (None, other) if entry.0.get_ref() == TENANT_NAME => {
                    self.wrong_type(entry.1.span(), TENANT_NAME, "a text in quotes", type_of(other));
                    name = Some(String::new());
                }
                (None, _) => self.stray(entry.0, Table::Tenant),
            }
        }
        if name.is_none() {
            self.complain(whole, Mistake::NoTenantName);
        }
        Some(TenantConfig { name: name?, options })
    }

    /// Whether the tenant that is named is one of the file's, and says enough.
    fn tenant_of(&mut self, options: &AppOptions, file: &OperatorsFile, table: &DeTable<'_>, whole: Range<usize>) {
        if let Err(mistake) = tenants::settle(&mut options.clone(), &file.defaults, &file.tenants) {
            let entry = table.iter().find(|(key, _)| key.get_ref() == "tenant");
            self.complain(entry.map_or(whole, |(_, value)| value.span()), Mistake::Tenant(mistake));
        }
    }

    fn defaults(&mut self, table: &DeTable<'_>, whole: Range<usize>) -> AppOptions {
        let mut options = AppOptions::default();
        for entry in table {
            self.app_key(&mut options, entry, Table::Defaults);
        }
        self.judge(&options, table, whole);
        options
    }

    /// A key of `[defaults]`, or of `[[app]]`, that is none of the latter's own.
    fn app_key(&mut self, options: &mut AppOptions, entry: Entry<'_, '_>, table: Table) {
        let name = entry.0.get_ref().as_ref();
        match key_of(AppOptions::KEYS, name) {
            Some(key) => {
                self.set(key, entry, |words| options.set(key.name, words));
            }
            None if name == ENV => options.env = self.env(entry.1),
            None => self.stray(entry.0, table),
        }
    }

    /// `None`: it can't be served, and that was told.
    fn app(&mut self, table: &DeTable<'_>, whole: Range<usize>, defaults: &AppOptions) -> Option<FileApp> {
        let mut options = AppOptions::default();
        let mut own: HashMap<&str, Spanned<String>> = HashMap::new();
        for entry in table {
            let name = entry.0.get_ref().as_ref();
            match (APP_KEYS.iter().find(|key| **key == name), entry.1.get_ref()) {
                (Some(key), DeValue::String(text)) if !text.contains('\0') => {
                    own.insert(key, Spanned::new(entry.1.span(), text.to_string()));
                }
                (Some(key), other) => self.wrong_type(entry.1.span(), key, "a text in quotes", type_of(other)),
                (None, _) => self.app_key(&mut options, entry, Table::App),
            }
        }
        self.judge(&options.clone().over(defaults), table, whole.clone());
        let text = |key: &str| own.get(key).map_or("", |text| text.get_ref());
        let at = |key: &str| own.get(key).map_or(whole.clone(), Spanned::span);
        let place = Route::place_of(text("host"), text("path"));
        let path_at = at(if own.contains_key("path") { "path" } else { "host" });
        let (host, prefix) = place.map_err(|why| self.complain(path_at, Mistake::Senseless(why))).ok()?;
        let Some(root) = own.get("root").filter(|root| !root.get_ref().is_empty()) else {
            self.complain(at("root"), Mistake::NoRoot);
            return None;
        };
        let root_at = Position::of(self.text, root.span().start);
        let root = normalised(self.folder, &settings::home(root.get_ref()));
        let name = own.get("name").map(|name| name.get_ref().clone());
        if name.as_ref().is_some_and(String::is_empty) {
            self.complain(at("name"), Mistake::Senseless("`name` is empty; leave it out".to_owned()));
        }
        Some(FileApp { host, prefix, root, name, options, root_at, at: Position::of(self.text, whole.start) })
    }

    /// Whether it could be set.
    fn set(
        &mut self,
        key: &Key,
        (name, value): Entry<'_, '_>,
        set: impl FnOnce(&[String]) -> Result<(), String>,
    ) -> bool {
        let done = match words(key, value.get_ref()) {
            Ok(words) => set(&words).map_err(|why| Mistake::Value { key: name.get_ref().to_string(), why }),
            Err(mistake) => Err(mistake),
        };
        done.map_err(|mistake| self.complain(value.span(), mistake)).is_ok()
    }

    fn env(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(String, String)> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(value.span(), ENV, "a table, such as { NAME = \"value\" }", type_of(value.get_ref()));
            return Vec::new();
        };
        let mut env = Vec::new();
        for (name, value) in table {
            match value.get_ref() {
                DeValue::String(text) => env.push((name.get_ref().to_string(), text.to_string())),
                other => {
                    let key = format!("{ENV}.{}", name.get_ref());
                    self.wrong_type(value.span(), &key, "a text in quotes", type_of(other));
                }
            }
        }
        env
    }

    /// Values that are no use together, or at all; where the key stands that the sentence begins with.
    fn judge(&mut self, options: &AppOptions, table: &DeTable<'_>, whole: Range<usize>) {
        if let Err(why) = settings::check_app(options) {
            let first = why.split([' ', ':']).next().unwrap_or_default();
            let entry = table.iter().find(|(key, _)| key.get_ref() == first);
            self.complain(entry.map_or(whole, |(key, _)| key.span()), Mistake::Senseless(why));
        }
    }

    /// A key that this table does not have.
    fn stray(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, found: Table) {
        let name = key.get_ref().to_string();
        let home = if found != Table::Pool && key_of(PoolOptions::KEYS, &name).is_some() {
            Some(Home::Pool)
        } else if found != Table::Tenant && APP_KEYS.contains(&name.as_str()) {
            Some(Home::App)
        } else if key_of(AppOptions::KEYS, &name).is_some() || name == ENV {
            Some(Home::DefaultsOrApp)
        } else {
            MANIFEST_KEYS.contains(&name.as_str()).then_some(Home::Manifest)
        };
        let what = match home {
            Some(home) => Mistake::Misplaced { key: name, home, found },
            None => nearest(name, found),
        };
        self.complain(key.span(), what);
    }

    /// What no two applications may share.
    fn apps_together(&mut self, file: &OperatorsFile) {
        for (nth, app) in file.apps.iter().enumerate() {
            let earlier = &file.apps[..nth];
            let line = |other: &FileApp| other.at.line;
            let place = earlier.iter().find(|other| other.host == app.host && other.prefix == app.prefix);
            let name = earlier.iter().find(|other| app.name.is_some() && other.name == app.name);
            let root = earlier.iter().find(|other| other.root == app.root);
            let says_more = app.name.is_some() || app.options != AppOptions::default();
            let mistakes = [
                place.map(|other| Mistake::TakenPlace {
                    place: router::place(app.host.as_deref(), &app.prefix),
                    line: line(other),
                }),
                name.map(|other| Mistake::TakenName { name: app.name.clone().unwrap_or_default(), line: line(other) }),
                root.filter(|_| says_more)
                    .map(|other| Mistake::SettingsTwice { root: app.root.clone(), line: line(other) }),
            ];
            self.problems.extend(mistakes.into_iter().flatten().map(|what| Problem { at: app.at, what }));
        }
    }
}

fn key_of(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// The key that was probably meant: of this table rather than of another.
fn nearest(key: String, found: Table) -> Mistake {
    /// Two letters wrong, or two changed places, is a slip; more is another word.
    const FAR: usize = 3;
    let pool = PoolOptions::KEYS.iter().map(|key| (key.name, Table::Pool));
    let own = APP_KEYS.iter().map(|key| (*key, Table::App));
    let both = AppOptions::KEYS.iter().map(|key| key.name).chain([ENV]);
    let both = both.map(|name| (name, if found == Table::App { Table::App } else { Table::Defaults }));
    let of_tenants = TenantOptions::KEYS.iter().map(|key| key.name).chain([TENANT_NAME]);
    let of_tenants = of_tenants.map(|name| (name, Table::Tenant)).filter(|_| found == Table::Tenant);
    let tables = TABLES.iter().map(|table| (*table, Table::Top));
    let lower = key.to_lowercase().replace('-', "_");
    let candidates = of_tenants.chain(pool).chain(own).chain(both).chain(tables);
    let near = candidates
        .map(|(name, home)| (strsim::damerau_levenshtein(&lower, name), home != found, name, home))
        .filter(|(distance, _, name, _)| *distance < FAR.min(name.len()))
        .min_by_key(|(distance, elsewhere, ..)| (*elsewhere, *distance));
    match near {
        Some((.., name, home)) => {
            let home = if home == found { Table::Top } else { home };
            Mistake::UnknownKey { key, near: Some(name), home }
        }
        None => Mistake::UnknownKey { key, near: None, home: found },
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
