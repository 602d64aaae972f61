//! The name of an app: its root, an absolute path, lexically normalised; bytes, not text. Two names are two apps.

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// `path` made absolute from `here`, without `.`, `..`, doubled and trailing slashes. Looks at no file: symbolic
/// links stay.
#[must_use]
pub fn normalised(here: &Path, path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in here.join(path).components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The name of the app at `path`, which may be relative to the current folder.
///
/// # Errors
/// When it is, and the current folder is not known.
pub fn name(path: &Path) -> io::Result<Vec<u8>> {
    let here = if path.is_absolute() { PathBuf::new() } else { std::env::current_dir()? };
    Ok(normalised(&here, path).into_os_string().into_vec())
}

/// Whether these bytes are a name of that form.
///
/// # Errors
/// What is wrong with them.
pub fn check(root: &[u8]) -> Result<(), &'static str> {
    let Some(rest) = root.strip_prefix(b"/") else { return Err("an application's root must be an absolute path") };
    if root.contains(&0) {
        return Err("a path can't hold a NUL byte");
    }
    let normal = rest.is_empty() || rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if normal {
        Ok(())
    } else {
        Err("an application's root must be normalised: no `.`, `..`, or double or final slash")
    }
}

/// Whether `root` lies somewhere below `folder`. Both are absolute and normalised.
#[must_use]
pub fn is_below(root: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    root.strip_prefix(folder).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn roots_are_normalised_lexically_from_the_given_folder() {
        for (path, normal) in [
            ("/", "/"),
            ("/srv//shop/", "/srv/shop"),
            ("/srv/./shop/../blog", "/srv/blog"),
            ("/../..", "/"),
            ("/srv/shop/.", "/srv/shop"),
            ("a/../b", "/here/b"),
            ("./", "/here"),
        ] {
            let found = normalised(Path::new("/here"), Path::new(path));
            assert_eq!(found, Path::new(normal), "{path}");
            assert_eq!(check(found.as_os_str().as_bytes()), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_is_not_of_that_form_is_refused() {
        for root in ["relative", "", "/a/../b", "/a//b", "/a/", "/a/.", "/a\0b"] {
            assert!(check(root.as_bytes()).is_err(), "{root:?}");
        }
    }
}
