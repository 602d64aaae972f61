//! A command line and a folder, as `execve(2)` and `chdir(2)` want them.

use crate::launch::LaunchError;
use hatchery_protocol::link::Place;
use std::ffi::CString;

pub(crate) fn string(bytes: Vec<u8>) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| LaunchError::Null)
}

/// Where the program may be: itself if it has a slash, else in each folder of `path`.
pub(crate) fn candidates(program: &[u8], path: &[u8]) -> Result<Vec<CString>, LaunchError> {
    if program.contains(&b'/') {
        return Ok(vec![string(program.to_vec())?]);
    }
    path.split(|byte| *byte == b':')
        .map(|folder| {
            let folder = if folder.is_empty() { b"." } else { folder };
            string([folder, program].join(&b'/'))
        })
        .collect()
}

/// `directory` with all its parents, from the top.
pub(crate) fn levels(directory: &[u8]) -> Result<Vec<CString>, LaunchError> {
    let mut levels = vec![c"/".to_owned()];
    for (index, byte) in directory.iter().enumerate() {
        let end = index + 1 == directory.len();
        if index > 0 && *byte != b'/' && (end || directory[index + 1] == b'/') {
            levels.push(string(directory[..=index].to_vec())?);
        }
    }
    Ok(levels)
}

/// An argument with `{port}` and `{socket}` filled in.
pub(crate) fn filled(argument: &[u8], place: Option<&Place>) -> Vec<u8> {
    match place {
        None => argument.to_vec(),
        Some(Place::Port(port)) => replaced(argument, b"{port}", port.to_string().as_bytes()),
        Some(Place::Path(path)) => replaced(argument, b"{socket}", path),
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(strings: &[CString]) -> Vec<&str> {
        strings.iter().map(|string| string.to_str().unwrap()).collect()
    }

    #[test]
    fn a_program_without_a_slash_is_looked_for_on_the_path() {
        assert_eq!(text(&candidates(b"ruby", b"/a:/b/c::").unwrap()), ["/a/ruby", "/b/c/ruby", "./ruby", "./ruby"]);
        assert_eq!(text(&candidates(b"./ruby", b"/a").unwrap()), ["./ruby"]);
    }

    #[test]
    fn every_level_of_a_directory_is_entered() {
        assert_eq!(text(&levels(b"/").unwrap()), ["/"]);
        assert_eq!(text(&levels(b"/srv/a b/c").unwrap()), ["/", "/srv", "/srv/a b", "/srv/a b/c"]);
        assert_eq!(text(&levels(b"/a").unwrap()), ["/", "/a"]);
    }

    #[test]
    fn places_are_filled_into_arguments() {
        assert_eq!(filled(b"--port={port},{port}", Some(&Place::Port(80))), b"--port=80,80");
        assert_eq!(filled(b"{socket}", Some(&Place::Path(b"/x".to_vec()))), b"/x");
        assert_eq!(filled(b"{port}{socket}", None), b"{port}{socket}");
    }
}
