//! Asking a live pool what it does.

use crate::cli::{AdminAt, Status};
use crate::{admin, admin_place, complain, print};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

pub(crate) fn run(options: &Status, at: Option<AdminAt>) -> ExitCode {
    let pool = match admin_place::connect(at) {
        Ok(pool) => pool,
        Err(problem) => return complain(problem),
    };
    let shown = if options.json { json(&pool) } else { admin::ask(&pool, "status") };
    match shown.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

fn json(pool: &UnixStream) -> Result<String, String> {
    let answer = admin::ask_json(pool, "status")?;
    serde_json::to_string_pretty(&answer).map(|text| text + "\n").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printed_for_people_too() {
        let pool = admin::pool_that_said("{\"ok\":true,\"version\":\"1\",\"max\":6,\"apps\":[]}\n");
        assert_eq!(json(&pool).unwrap(), "{\n  \"version\": \"1\",\n  \"max\": 6,\n  \"apps\": []\n}\n");
    }
}
