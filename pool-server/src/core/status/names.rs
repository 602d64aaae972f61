//! What apps are called: by their roots, or by the last part of them.

use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::options::{AppOptions, Start};
use std::collections::HashMap;

/// What is said of each root, without what the defaults say, and what its app is called.
#[derive(Debug, Default)]
pub(crate) struct Said {
    options: HashMap<Vec<u8>, AppOptions>,
    /// The operator's names.
    given: HashMap<Vec<u8>, String>,
    /// Who does not say how it is started is the demo app.
    demo_by_default: bool,
    /// How many labels end in these parts.
    tails: HashMap<String, usize>,
}

impl Said {
    /// With the names of this configuration, from now on.
    pub(crate) fn follow(&mut self, config: &PoolConfig) {
        let named = config.apps.iter().filter_map(|app| Some((app.root.clone(), app.name.clone()?)));
        self.given = named.collect();
        self.demo_by_default = config.defaults.start == Some(Start::DemoApp);
        let labels: Vec<String> = self.options.keys().map(|root| self.label(root)).collect();
        self.tails.clear();
        labels.iter().for_each(|label| self.count(label));
    }

    pub(crate) fn get(&self, root: &[u8]) -> Option<&AppOptions> {
        self.options.get(root)
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.options.keys().map(Vec::as_slice)
    }

    pub(crate) fn insert(&mut self, root: Vec<u8>, options: AppOptions) -> Option<AppOptions> {
        let before = self.remove(&root);
        self.options.insert(root.clone(), options);
        let label = self.label(&root);
        self.count(&label);
        before
    }

    pub(crate) fn remove(&mut self, root: &[u8]) -> Option<AppOptions> {
        if self.options.contains_key(root) {
            let label = self.label(root);
            for tail in tails(&label) {
                if let Some(count) = self.tails.get_mut(&tail) {
                    *count -= 1;
                    if *count == 0 {
                        self.tails.remove(&tail);
                    }
                }
            }
        }
        self.options.remove(root)
    }

    /// The operator's name for it, else its root.
    pub(crate) fn label(&self, root: &[u8]) -> String {
        if let Some(given) = self.given.get(root) {
            return given.clone();
        }
        let start = self.options.get(root).and_then(|options| options.start.as_ref());
        let is_demo = start.map_or(self.demo_by_default, |start| *start == Start::DemoApp);
        if is_demo { "demo".into() } else { String::from_utf8_lossy(root).into_owned() }
    }

    /// The last part of its label, lengthened until no other app has the same.
    pub(crate) fn name(&self, root: &[u8]) -> String {
        let label = self.label(root);
        let own = usize::from(self.options.contains_key(root));
        let others = |tail: &String| self.tails.get(tail).copied().unwrap_or(0) > own;
        let unique = tails(&label).find(|tail| !others(tail));
        unique.unwrap_or(label)
    }

    fn count(&mut self, label: &str) {
        for tail in tails(label) {
            *self.tails.entry(tail).or_default() += 1;
        }
    }
}

/// The last part of a path, the last two, and so on.
fn tails(path: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = parts(path).collect();
    (1..=parts.len()).map(move |len| parts[parts.len() - len..].join("/"))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Which of these apps (their roots and what they are called) is meant by a root, a name, or as much of the end of
/// one as no other has.
///
/// # Errors
/// One sentence.
pub(crate) fn find<'a>(wanted: &str, apps: &'a [(Vec<u8>, String)]) -> Result<&'a [u8], String> {
    let whole = |(root, name): &&(Vec<u8>, String)| *root == wanted.as_bytes() || name == wanted;
    let end: Vec<&str> = parts(wanted).collect();
    let ends = |path: &str| parts(path).collect::<Vec<_>>().ends_with(&end);
    let by_end = |(root, name): &&(Vec<u8>, String)| ends(&String::from_utf8_lossy(root)) || ends(name);
    let mut found: Vec<_> = apps.iter().filter(whole).collect();
    if found.is_empty() && !wanted.starts_with('/') && !end.is_empty() {
        found = apps.iter().filter(by_end).collect();
    }
    match found.as_slice() {
        [(root, _)] => Ok(root),
        [] => Err(format!("no application '{}'; status lists them", super::super::output::printable(wanted))),
        several => {
            let mut roots: Vec<_> = several.iter().map(|(root, _)| String::from_utf8_lossy(root)).collect();
            roots.sort();
            Err(format!("'{wanted}' may be any of {}; write more of its path", roots.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::config::AppConfig;

    fn said(roots: &[&str]) -> Said {
        let mut said = Said::default();
        for root in roots {
            said.insert(root.as_bytes().to_vec(), AppOptions::default());
        }
        said
    }

    fn names(roots: &[&str]) -> Vec<String> {
        let said = said(roots);
        roots.iter().map(|root| said.name(root.as_bytes())).collect()
    }

    #[test]
    fn names_are_as_short_as_unique_ones_can_be() {
        assert_eq!(names(&["/srv/shop", "/srv/blog"]), ["shop", "blog"]);
        assert_eq!(names(&["/a/srv/shop", "/b/srv/shop", "/srv/x"]), ["a/srv/shop", "b/srv/shop", "x"]);
        assert_eq!(names(&["/shop", "/srv/shop"]), ["/shop", "srv/shop"]);
        assert_eq!(names(&["/srv/a b", "/"]), ["a b", "/"]);
    }

    #[test]
    fn a_name_grows_and_shrinks_with_what_others_are_called() {
        let mut said = said(&["/a/shop", "/b/shop"]);
        assert_eq!(said.name(b"/a/shop"), "a/shop");
        // Once more is no second app.
        said.insert(b"/a/shop".into(), AppOptions::default());
        said.remove(b"/b/shop");
        said.remove(b"/never/there/shop");
        assert_eq!(said.name(b"/a/shop"), "shop");
        let named = AppConfig { root: b"/a/shop".into(), name: Some("till".into()), options: AppOptions::default() };
        said.follow(&PoolConfig { apps: vec![named], ..PoolConfig::default() });
        assert_eq!((said.name(b"/a/shop").as_str(), said.label(b"/a/shop").as_str()), ("till", "till"));
        let demo = AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() };
        said.insert(b"/b/shop".into(), demo.clone());
        assert_eq!(said.name(b"/b/shop"), "demo");
        said.insert(b"/c/shop".into(), demo);
        assert_eq!(said.name(b"/b/shop"), "demo", "there is nothing longer");
        said.follow(&PoolConfig::default());
        assert_eq!(said.name(b"/a/shop"), "shop");
    }

    #[test]
    fn many_are_named_in_no_time() {
        let roots: Vec<String> = (0..2_000).map(|number| format!("/srv/customers/{number}/app")).collect();
        let started = std::time::Instant::now();
        let mut said = Said::default();
        for root in &roots {
            said.insert(root.as_bytes().to_vec(), AppOptions::default());
            assert!(said.name(root.as_bytes()).ends_with("app"));
        }
        assert_eq!(said.name(roots[1999].as_bytes()), "1999/app");
        assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
    }

    #[test]
    fn an_app_is_meant_by_its_root_its_name_or_a_unique_end() {
        let apps: Vec<(Vec<u8>, String)> =
            [("/srv/a/shop", "/srv/a/shop"), ("/srv/b/shop", "/srv/b/shop"), ("/x/y", "blog")]
                .map(|(root, name)| (root.into(), name.into()))
                .into();
        for (wanted, root) in [
            ("/srv/a/shop", "/srv/a/shop"),
            ("a/shop", "/srv/a/shop"),
            ("blog", "/x/y"),
            ("y", "/x/y"),
            ("/x/y", "/x/y"),
        ] {
            assert_eq!(find(wanted, &apps), Ok(root.as_bytes()), "{wanted}");
        }
        let several = find("shop", &apps).unwrap_err();
        assert_eq!(several, "'shop' may be any of /srv/a/shop, /srv/b/shop; write more of its path");
        for unknown in ["", "/", "op", "/shop", "c/shop", "none"] {
            assert!(find(unknown, &apps).unwrap_err().contains("no application"), "{unknown}");
        }
    }
}
