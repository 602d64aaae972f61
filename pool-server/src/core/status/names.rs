//! What apps are called: by their roots, or by the last part of them.

use std::collections::HashMap;

/// The last part of each path, lengthened to the left until no two are alike.
pub(crate) fn unique_names(paths: &[String]) -> Vec<String> {
    let mut names: Vec<Option<String>> = vec![None; paths.len()];
    let mut unnamed: Vec<usize> = (0..paths.len()).collect();
    let longest = paths.iter().map(|path| parts(path).count()).max().unwrap_or(0);
    for len in 1..=longest {
        let tails: Vec<String> = paths.iter().map(|path| tail(path, len)).collect();
        let mut count: HashMap<&str, usize> = HashMap::new();
        for tail in &tails {
            *count.entry(tail).or_default() += 1;
        }
        unnamed.retain(|index| {
            let unique = count[tails[*index].as_str()] == 1 && len <= parts(&paths[*index]).count();
            if unique {
                names[*index] = Some(tails[*index].clone());
            }
            !unique
        });
        if unnamed.is_empty() {
            break;
        }
    }
    names.into_iter().zip(paths).map(|(name, path)| name.unwrap_or_else(|| path.clone())).collect()
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn tail(path: &str, len: usize) -> String {
    let parts: Vec<&str> = parts(path).collect();
    parts[parts.len().saturating_sub(len)..].join("/")
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

    fn names(paths: &[&str]) -> Vec<String> {
        unique_names(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_as_short_as_unique_ones_can_be() {
        assert_eq!(names(&["/srv/shop", "/srv/blog"]), ["shop", "blog"]);
        assert_eq!(names(&["/a/srv/shop", "/b/srv/shop", "/srv/x"]), ["a/srv/shop", "b/srv/shop", "x"]);
        assert_eq!(names(&["/shop", "/srv/shop"]), ["/shop", "srv/shop"]);
        assert_eq!(names(&["demo", "/srv/a b"]), ["demo", "a b"]);
        assert_eq!(names(&["/", "/x"]), ["/", "x"]);
        assert_eq!(names(&["same", "same"]), ["same", "same"]);
    }

    #[test]
    fn many_are_named_in_no_time() {
        let paths: Vec<String> = (0..2_000).map(|number| format!("/srv/customers/{number}/app")).collect();
        let started = std::time::Instant::now();
        assert_eq!(unique_names(&paths)[1999], "1999/app");
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
