//! Rack applications.

use super::{Result, Search, Sign};
use crate::manifest::{Kind, Manifest};

/// The file by which every Rack server starts an app.
pub(super) const ENTRY: &str = "config.ru";

pub(super) fn look(search: &mut Search<'_>) -> Result<Option<Sign>> {
    if !search.files.has(ENTRY) {
        return Ok(None);
    }
    let gemfile = if search.files.has("Gemfile") { "; its Gemfile says with which gems" } else { "" };
    Ok(Some(Sign {
        start: Manifest::of_kind(Kind::Rack, ENTRY),
        what: "Rack",
        file: ENTRY.into(),
        line: None,
        why: format!("is how every Rack server starts an application{gemfile}"),
        guess: false,
    }))
}
