//! `hatchery deploy`: a new version of an application is copied beside it, and the pool asked to put it in its place.
//!
//! | file | holds |
//! | --- | --- |
//! | [`staging`] | where it is copied to, when it becomes visible, and taking it back |
//! | [`copy`] | copying a file or a tree |
//! | [`unstaged`] | why a version can't be staged |

mod copy;
mod staging;
mod unstaged;

use crate::admin::{self, Answer};
use crate::cli::AdminAt;
use crate::orders::{self, Deploy};
use staging::Staging;
use std::path::Path;

/// # Errors
/// It can't be staged, or there is no whole answer.
pub(crate) fn run(options: &Deploy, at: Option<AdminAt>) -> Result<Answer, String> {
    let pool = orders::connect(at)?;
    let status = admin::ask_json(&pool, "status")?;
    let root = orders::find(&options.app, &status)?["root"].as_str().unwrap_or_default().to_owned();
    // By its root: a name could be another app's by the time everything is copied.
    let question = orders::question_of_deploy(&root, options.plain.json)?;
    let staged = Staging::begin(Path::new(&root))
        .and_then(|staging| staging.stage(&options.version))
        .map_err(|why| why.to_string())?;
    let answer = question.ask(&pool);
    match &answer {
        Ok(Answer { refusal: None, .. }) => {}
        // What the pool has not taken, it would take some time later, though this has failed.
        Ok(_) | Err(_) => staged.withdraw().map_err(|why| match &answer {
            Ok(Answer { refusal: Some(refusal), .. }) => format!("{refusal}\n{why}"),
            Ok(_) => why.to_string(),
            Err(problem) => format!("{problem}\n{why}"),
        })?,
    }
    answer
}
