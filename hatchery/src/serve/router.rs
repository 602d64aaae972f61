//! Which app a request is for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One `[HOST][/PATH]=ROOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Lowercase, without port; `None`: any.
    pub(crate) host: Option<String>,
    /// Empty, or `/` and segments without a slash at the end.
    pub(crate) prefix: String,
    /// Absolute and lexically normalised.
    pub(crate) root: Arc<PathBuf>,
    /// Shows the browser why an app could not be started.
    pub(crate) development: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    /// Those with a host first, longer prefixes first: the first match is the longest.
    routes: Vec<Route>,
}

impl Router {
    /// # Errors
    /// Two routes for one place: the sentence names it.
    pub(crate) fn new(mut routes: Vec<Route>) -> Result<Self, String> {
        routes.sort_by(|a, b| {
            let key = |r: &Route| (r.host.is_none(), std::cmp::Reverse(r.prefix.len()));
            key(a).cmp(&key(b)).then_with(|| (&a.host, &a.prefix).cmp(&(&b.host, &b.prefix)))
        });
        for pair in routes.windows(2) {
            if pair[0].host == pair[1].host && pair[0].prefix == pair[1].prefix {
                return Err(format!(
                    "{} and {} are both to be served at {}; leave one out, or give it another host or path",
                    pair[0].root.display(),
                    pair[1].root.display(),
                    pair[0].place()
                ));
            }
        }
        Ok(Self { routes })
    }

    /// `host` as the request has it: any case, perhaps with a port. `path` as the request has it, undecoded.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<&Route> {
        let host = host.map(bare_host);
        self.routes.iter().find(|route| {
            let host_fits = match (&route.host, host) {
                (None, _) => true,
                (Some(wanted), Some(host)) => wanted.eq_ignore_ascii_case(host),
                (Some(_), None) => false,
            };
            host_fits && covers(&route.prefix, path)
        })
    }
}

impl Router {
    /// Whether requests may go to the app at this root.
    pub(crate) fn serves(&self, root: &Path) -> bool {
        self.routes.iter().any(|route| **route.root == *root)
    }
}

impl Route {
    /// Reads `[HOST][/PATH]=ROOT`; the root is left as it stands.
    ///
    /// # Errors
    /// One sentence for the command line.
    pub(crate) fn parse(text: &str) -> Result<(Option<String>, String, &str), String> {
        let Some((place, root)) = text.split_once('=') else {
            return Err(format!("`{text}` names no application; write [HOST][/PATH]=ROOT"));
        };
        if root.is_empty() {
            return Err(format!("`{text}` has nothing after the `=`; write [HOST][/PATH]=ROOT"));
        }
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let (host, prefix) = Self::place_of(host, path)?;
        Ok((host, prefix, root))
    }

    /// A host and a path prefix as people write them; either may be empty.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn place_of(host: &str, path: &str) -> Result<(Option<String>, String), String> {
        if bare_host(host) != host.trim_end_matches('.') {
            return Err(format!("`{host}` has a port; ports are said with `listen`, hosts without one"));
        }
        if host.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '/')) {
            return Err(format!("`{host}` is no host name"));
        }
        let path = path.trim_end_matches('/');
        let wrong = path.contains("//") || path.contains(['?', '#']) || path.split('/').any(|s| s == "." || s == "..");
        if wrong || !(path.is_empty() || path.starts_with('/')) {
            return Err(format!("`{path}` is no path prefix; write it like /blog or /team/wiki"));
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Ok(((!host.is_empty()).then_some(host), path.to_owned()))
    }

    /// For people.
    pub(crate) fn place(&self) -> String {
        place(self.host.as_deref(), &self.prefix)
    }
}

/// A host and a path prefix, for people.
pub(crate) fn place(host: Option<&str>, prefix: &str) -> String {
    let path = if prefix.is_empty() { "/" } else { prefix };
    format!("{}{path}", host.unwrap_or_default())
}

/// A prefix ends where a segment does: `/shop` is not for `/shopping`.
fn covers(prefix: &str, path: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// A `Host` without its port and its final dot.
fn bare_host(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    host[..end].trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[&str]) -> Router {
        let routes = routes.iter().map(|text| {
            let (host, prefix, root) = Route::parse(text).unwrap();
            Route { host, prefix, root: Arc::new(root.into()), development: false }
        });
        Router::new(routes.collect()).unwrap()
    }

    fn root<'a>(router: &'a Router, host: Option<&str>, path: &str) -> Option<&'a str> {
        router.find(host, path).map(|route| route.root.to_str().unwrap())
    }

    #[test]
    fn the_longest_match_wins_and_a_host_beats_a_path() {
        let router =
            router(&["=/any", "/shop=/shop", "/shop/admin=/admin", "Shop.Example=/host", "shop.example/shop=/both"]);
        assert_eq!(root(&router, None, "/"), Some("/any"));
        assert_eq!(root(&router, Some("other"), "/shop"), Some("/shop"));
        assert_eq!(root(&router, Some("other"), "/shop/admin/users"), Some("/admin"));
        assert_eq!(root(&router, Some("other"), "/shop/administrators"), Some("/shop"));
        assert_eq!(root(&router, Some("shop.example"), "/shop/admin"), Some("/both"));
        assert_eq!(root(&router, Some("SHOP.example:8080"), "/"), Some("/host"));
        assert_eq!(root(&router, Some("shop.example."), "/"), Some("/host"));
    }

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        let router = router(&["/shop/=/shop"]);
        for (path, found) in [
            ("/shop", true),
            ("/shop/", true),
            ("/shop/a", true),
            ("/shopping", false),
            ("/Shop", false),
            ("/", false),
            ("*", false),
        ] {
            assert_eq!(router.find(None, path).is_some(), found, "{path}");
        }
    }

    #[test]
    fn a_host_in_brackets_keeps_its_colons() {
        let router = router(&["[::1]=/six"]);
        assert_eq!(root(&router, Some("[::1]:8080"), "/"), Some("/six"));
        assert_eq!(root(&router, Some("[::2]:8080"), "/"), None);
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in ["/srv/shop", "shop=", "host:80=/a", "/a//b=/a", "/a/../b=/a", "/a?b=/c", "*.example=/a"] {
            assert!(Route::parse(text).is_err(), "{text}");
        }
        let twice = ["a=/1", "A/=/2"].map(|text| {
            let (host, prefix, root) = Route::parse(text).unwrap();
            Route { host, prefix, root: Arc::new(root.into()), development: false }
        });
        assert!(Router::new(twice.into()).unwrap_err().contains("a/"));
    }
}
