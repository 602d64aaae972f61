//! PHP applications.

use super::{Result, Search, Sign};
use crate::manifest::{Kind, Manifest};

const ENTRIES: [&str; 3] = ["public/index.php", "web/index.php", "index.php"];
/// Files that say what kind of PHP application it is.
const FURTHER: [(&str, &str); 4] =
    [("artisan", "Laravel"), ("bin/console", "Symfony"), ("wp-config.php", "WordPress"), ("composer.json", "Composer")];

pub(super) fn look(search: &mut Search<'_>) -> Result<Option<Sign>> {
    let Some(entry) = ENTRIES.into_iter().find(|entry| search.files.has(entry)) else { return Ok(None) };
    let mut why = String::from("answers every address that is no file beside it");
    if let Some((file, what)) = FURTHER.into_iter().find(|(file, _)| search.files.has(file)) {
        why.push_str(&format!("; with {file}, as of {what}"));
    }
    if search.files.has("composer.json") && !search.files.has("vendor/autoload.php") {
        search.warnings.push("composer.json is there, and vendor/autoload.php is not: run `composer install`".into());
    }
    Ok(Some(Sign {
        start: Manifest::of_kind(Kind::Php, entry),
        what: "PHP",
        file: entry.into(),
        line: None,
        why,
        guess: false,
    }))
}
