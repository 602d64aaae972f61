//! The name of an app: an absolute path, lexically normalised, as bytes.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// `path` made absolute from the current folder, without `.`, `..`, doubled and trailing slashes. Looks at no file.
pub(crate) fn normalised(path: &Path) -> io::Result<Vec<u8>> {
    let joined;
    let path = if path.is_absolute() {
        path
    } else {
        joined = env::current_dir()?.join(path);
        &joined
    };
    let mut normal = PathBuf::with_capacity(path.as_os_str().len());
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    Ok(normal.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> String {
        String::from_utf8(normalised(Path::new(path)).unwrap()).unwrap()
    }

    #[test]
    fn roots_are_normalised_lexically() {
        for (path, expected) in [
            ("/", "/"),
            ("/srv//shop/", "/srv/shop"),
            ("/srv/./shop/../blog", "/srv/blog"),
            ("/../..", "/"),
            ("/srv/shop/.", "/srv/shop"),
        ] {
            assert_eq!(name(path), expected);
        }
    }

    #[test]
    fn a_relative_root_begins_at_the_current_folder() {
        assert_eq!(name("shop"), format!("{}/shop", env::current_dir().unwrap().display()));
    }
}
