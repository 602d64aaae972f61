//! Asking a live pool what it does.

use crate::cli::{AdminAt, Status};
use crate::{admin_place, complain};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// How long a pool may take to say something.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any pool has to say.
const LONGEST_ANSWER: u64 = 64 << 20;

pub(crate) fn run(options: &Status, admin: Option<AdminAt>) -> ExitCode {
    let pool = match admin_place::connect(admin) {
        Ok(pool) => pool,
        Err(problem) => return complain(problem),
    };
    let shown = if options.json { json(&pool) } else { table(&pool) };
    match shown.and_then(|text| std::io::stdout().write_all(text.as_bytes()).or_else(quietly)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

/// The data lines, without the two spaces that tell them from the last line.
fn table(pool: &UnixStream) -> Result<String, String> {
    let mut text = String::new();
    for line in ask(pool, "status")? {
        let line = line.map_err(|error| format!("the pool did not finish its answer: {error}"))?;
        match line.strip_prefix("  ") {
            Some(data) => {
                text.push_str(data);
                text.push('\n');
            }
            None if line == "ok" => return Ok(text),
            None => return Err(line.strip_prefix("error: ").unwrap_or(&line).to_owned()),
        }
    }
    Err("the pool ended before it had answered".to_owned())
}

/// The status object: the answer without its `ok`.
fn json(pool: &UnixStream) -> Result<String, String> {
    let line = ask(pool, "json status")?.next().ok_or("the pool ended before it had answered")?;
    let line = line.map_err(|error| format!("the pool did not finish its answer: {error}"))?;
    let unread = |error| format!("the pool's answer is no JSON: {error}");
    let mut answer: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).map_err(unread)?;
    if answer.shift_remove("ok") != Some(true.into()) {
        let error =
            answer.get("error").and_then(|error| error.as_str()).unwrap_or("the pool refused, without a reason");
        return Err(error.to_owned());
    }
    serde_json::to_string_pretty(&answer).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn ask(mut pool: &UnixStream, question: &str) -> Result<impl Iterator<Item = std::io::Result<String>>, String> {
    let asked = pool
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| pool.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| pool.write_all(format!("{question}\n").as_bytes()));
    asked.map_err(|error| format!("the pool can't be asked: {error}"))?;
    Ok(BufReader::new(pool.take(LONGEST_ANSWER)).lines())
}

/// `hatchery status | head` is no failure.
fn quietly(error: std::io::Error) -> Result<(), String> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a pool that has said `answer` already.
    fn pool(answer: &str) -> UnixStream {
        let (ours, mut pools) = UnixStream::pair().unwrap();
        pools.write_all(answer.as_bytes()).unwrap();
        // The question waits in the buffer; the end of the answer is seen.
        pools.shutdown(std::net::Shutdown::Write).unwrap();
        std::mem::forget(pools);
        ours
    }

    #[test]
    fn a_table_is_what_stands_between_its_indent_and_ok() {
        assert_eq!(table(&pool("  one\n    two\nok\n")).unwrap(), "one\n  two\n");
        assert_eq!(table(&pool("error: not now\n")).unwrap_err(), "not now");
        assert!(table(&pool("  one\n")).unwrap_err().contains("ended"));
    }

    #[test]
    fn json_is_the_object_without_ok_in_its_order() {
        let shown = json(&pool("{\"ok\":true,\"version\":\"1\",\"max\":6,\"apps\":[]}\n")).unwrap();
        assert_eq!(shown, "{\n  \"version\": \"1\",\n  \"max\": 6,\n  \"apps\": []\n}\n");
        assert_eq!(json(&pool("{\"ok\":false,\"error\":\"no\"}\n")).unwrap_err(), "no");
        assert!(json(&pool("nonsense\n")).is_err());
    }
}
