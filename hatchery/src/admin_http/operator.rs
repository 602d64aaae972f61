//! The pool, asked in the words of its admin socket: everything that is shown comes from there.

use crate::serve::pool::Pool;
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the pool has for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// More than any pool has to say.
const LONGEST: u64 = 64 << 20;
/// Connections that are kept for the next question.
const IDLE: usize = 4;
/// A stream says at least this often that it lives.
const BEAT: Duration = Duration::from_secs(15);

type Connection = BufReader<UnixStream>;

/// Connections that have been used, and are silent.
#[derive(Debug, Default)]
pub(super) struct Operator(Mutex<Vec<Connection>>);

/// A question that came to nothing.
enum Unanswered {
    /// The connection had ended before: the pool's core may be another by now.
    Stale,
    Because(String),
}

impl Operator {
    /// The line of JSON that answers `json QUESTION`, whose `ok` may be false.
    ///
    /// # Errors
    /// One sentence: there is no answer.
    pub(super) async fn ask(&self, pool: &Pool, question: &str) -> Result<String, String> {
        let asked = async {
            loop {
                let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let (connection, fresh) = match kept {
                    Some(connection) => (connection, false),
                    None => (open(pool).await?, true),
                };
                // Whoever gives up in between takes the connection along, with what may still come on it.
                match once(connection, question).await {
                    Ok((connection, line)) => {
                        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                        if idle.len() < IDLE {
                            idle.push(connection);
                        }
                        return Ok(line);
                    }
                    Err(Unanswered::Stale) if !fresh => {}
                    Err(Unanswered::Stale) => return Err("the pool ended before it had answered".to_owned()),
                    Err(Unanswered::Because(why)) => return Err(why),
                }
            }
        };
        let silent = || format!("the pool does not answer within {} s", PATIENCE.as_secs());
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(silent()))
    }
}

async fn open(pool: &Pool) -> Result<Connection, String> {
    let client = pool.operator(PATIENCE).await?;
    let socket = client.operate().await.map_err(|error| error.to_string())?;
    Ok(BufReader::new(socket))
}

async fn once(mut connection: Connection, question: &str) -> Result<(Connection, String), Unanswered> {
    let said = connection.get_mut().write_all(format!("json {question}\n").as_bytes()).await;
    said.map_err(|_| Unanswered::Stale)?;
    let mut line = Vec::new();
    match (&mut connection).take(LONGEST).read_until(b'\n', &mut line).await {
        Ok(_) if line.ends_with(b"\n") => {}
        Ok(0) | Err(_) => return Err(Unanswered::Stale),
        Ok(_) => return Err(Unanswered::Because("the pool ended in the middle of its answer".to_owned())),
    }
    let line = String::from_utf8(line).map_err(|_| Unanswered::Because("the pool's answer is no text".to_owned()))?;
    Ok((connection, line))
}

/// The data lines of a command that goes on (`events json`), without their indent. They end with the pool's core. A
/// reader that is too slow loses events there, and sees it by their numbers.
///
/// # Errors
/// One sentence.
pub(super) async fn follow(pool: &Pool, command: &str) -> Result<mpsc::Receiver<Bytes>, String> {
    let mut connection = timeout(PATIENCE, open(pool)).await.map_err(|_| "the pool does not answer".to_owned())??;
    let said = connection.get_mut().write_all(format!("{command}\n").as_bytes()).await;
    said.map_err(|error| format!("the pool can't be asked: {error}"))?;
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let passed_on = async {
            let mut line = Vec::new();
            loop {
                let mut limited = (&mut connection).take(LONGEST);
                let piece = match timeout(BEAT, limited.read_until(b'\n', &mut line)).await {
                    Ok(Ok(count)) if count > 0 => match line.strip_prefix(b"  ") {
                        Some(data) => Bytes::copy_from_slice(data),
                        // `ok`, or an error: nothing more comes.
                        None => return,
                    },
                    Ok(_) => return,
                    // What was read of a line stays in the buffer.
                    Err(_) => {
                        if sender.send(Bytes::from_static(b"\n")).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                line.clear();
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = passed_on => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_a_whole_line_and_an_ended_connection_is_no_answer() {
        let (ours, mut pools) = UnixStream::pair().unwrap();
        let pool = tokio::spawn(async move {
            let mut heard = [0; 12];
            pools.read_exact(&mut heard).await.unwrap();
            pools.write_all(b"{\"ok\":true}\n").await.unwrap();
            heard
        });
        let Ok((connection, line)) = once(BufReader::new(ours), "status").await else { panic!("an answer") };
        assert_eq!((line.as_str(), &pool.await.unwrap()), ("{\"ok\":true}\n", b"json status\n"));
        assert!(matches!(once(connection, "status").await, Err(Unanswered::Stale)));
    }
}
