//! Writing output to files, on a thread of its own: a disk may be slow, the core never waits for it.

use super::files::{LogFile, Unwritten};
use super::lines::{each_line, push_printable};
use super::{Source, log_line};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// What may wait to be written of one app, in bytes. Beyond it the app's pipes are read no further.
const WAITING: usize = 256 * 1024;

/// The thread that writes. It ends when this, and with it the last order, is gone.
#[derive(Debug)]
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Write(Batch),
    /// Everything before it is written.
    Tell(oneshot::Sender<()>),
}

/// Whole lines of one stream.
#[derive(Debug)]
struct Batch {
    to: Arc<AppFile>,
    at: SystemTime,
    source: Source,
    lines: Vec<u8>,
    /// Given back when they are written.
    _room: OwnedSemaphorePermit,
}

/// Where the output of one app goes; all its workers share it.
#[derive(Debug)]
pub(super) struct AppFile {
    file: Mutex<LogFile>,
    /// For the message when it can't be written.
    folder: PathBuf,
    room: Arc<Semaphore>,
    /// It could not be written: the log takes the rest.
    failed: AtomicBool,
}

impl AppFile {
    pub(super) fn new(file: LogFile, folder: PathBuf) -> Self {
        let room = Arc::new(Semaphore::new(WAITING));
        Self { file: Mutex::new(file), folder, room, failed: AtomicBool::new(false) }
    }

    fn append(&self, batch: &Batch) {
        if self.failed.load(Ordering::Relaxed) {
            return batch.log(0);
        }
        let text = batch.text();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(Unwritten { error, written }) = file.append(&text) else { return };
        self.failed.store(true, Ordering::Relaxed);
        let path = self.folder.join(file.name());
        tracing::error!(
            app = %batch.source.app,
            "{}: {error}; what this application prints goes to the log until all its workers have left",
            path.display()
        );
        batch.log(text[..written].iter().filter(|byte| **byte == b'\n').count());
    }
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        std::thread::Builder::new().name("output".into()).spawn(move || {
            for order in received {
                match order {
                    Order::Write(batch) => batch.to.append(&batch),
                    Order::Tell(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(Self { orders })
    }

    /// Waits until there is room, and has whole lines written in their turn. What comes back is for the log.
    pub(super) async fn write(&self, to: &Arc<AppFile>, source: &Source, lines: Vec<u8>) -> Result<(), Vec<u8>> {
        let at = SystemTime::now();
        let wanted = u32::try_from(lines.len().min(WAITING)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&to.room).acquire_many_owned(wanted).await else { return Err(lines) };
        if to.failed.load(Ordering::Relaxed) {
            return Err(lines);
        }
        let batch = Batch { to: Arc::clone(to), at, source: source.clone(), lines, _room: room };
        match self.orders.send(Order::Write(batch)) {
            Ok(()) => Ok(()),
            Err(mpsc::SendError(Order::Write(batch))) => Err(batch.lines),
            Err(mpsc::SendError(Order::Tell(_))) => Ok(()),
        }
    }

    /// Waits until everything so far is written.
    pub(super) async fn flushed(&self) {
        let (done, told) = oneshot::channel();
        if self.orders.send(Order::Tell(done)).is_ok() {
            let _ = told.await;
        }
    }
}

impl Batch {
    /// `TIME PID out|err TEXT`, a line each; what a preloader prints is `preloader-out` or `preloader-err`.
    fn text(&self) -> Vec<u8> {
        let head = format!("{} {} {} ", utc(self.at), self.source.pid, self.source.stream.in_files(self.source.role));
        let mut text = String::with_capacity(self.lines.len() + head.len());
        for line in self.each() {
            text.push_str(&head);
            push_printable(&mut text, &String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.into_bytes()
    }

    fn log(&self, from: usize) {
        self.each().skip(from).for_each(|line| log_line(&self.source, line));
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        each_line(&self.lines)
    }
}

/// RFC 3339 with milliseconds.
fn utc(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of a day counted from 1970. Years are counted from March, so that a leap day is the last of
/// its year; 719,468 days lie between the first of March of year 0 and 1970.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let (era, day_of_era) = ((days + 719_468) / ERA, (days + 719_468) % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::super::{Role, Stream};
    use super::*;
    use std::fs::File;
    use std::time::Duration;
    use tempfile::TempDir;

    fn app_file(folder: &TempDir) -> Arc<AppFile> {
        let opened = File::open(folder.path()).unwrap().into();
        let file = LogFile::new(Arc::new(opened), "shop.log".into(), 0, 2);
        Arc::new(AppFile::new(file, folder.path().to_owned()))
    }

    fn source() -> Source {
        Source { app: "shop".into(), pid: 7, role: Role::Worker, stream: Stream::Out }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.5, "2000-02-29T00:00:00.500Z"),
            (1_709_251_199.0, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599.999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs_f64(seconds)), text);
        }
    }

    #[tokio::test]
    async fn a_line_has_its_time_its_process_and_its_stream() {
        let folder = TempDir::new().unwrap();
        let (writer, file) = (Writer::start().unwrap(), app_file(&folder));
        writer.write(&file, &source(), b"one\n\ntwo \x1b[31m\n".into()).await.unwrap();
        writer.flushed().await;
        let text = std::fs::read_to_string(folder.path().join("shop.log")).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once('Z').unwrap().1).collect();
        assert_eq!(lines, [" 7 out one", " 7 out ", " 7 out two \\u{1b}[31m"]);

        let preloader = Source { role: Role::Preloader, stream: Stream::Err, ..source() };
        writer.write(&file, &preloader, b"three\n".into()).await.unwrap();
        writer.flushed().await;
        let text = std::fs::read_to_string(folder.path().join("shop.log")).unwrap();
        assert!(text.ends_with("Z 7 preloader-err three\n"), "{text}");
    }

    #[tokio::test]
    async fn who_prints_faster_than_is_written_waits() {
        let folder = TempDir::new().unwrap();
        let (writer, file) = (Writer::start().unwrap(), app_file(&folder));
        let (source, lines) = (source(), vec![b'\n'; WAITING]);
        let (is_slow, slow) = mpsc::channel();
        let (fast, is_fast) = mpsc::channel::<()>();
        let disk = Arc::clone(&file);
        let disk = std::thread::spawn(move || {
            let _busy = disk.file.lock().unwrap();
            is_slow.send(()).unwrap();
            is_fast.recv().unwrap();
        });
        slow.recv().unwrap();
        writer.write(&file, &source, lines).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(20), writer.write(&file, &source, b"more\n".into()));
        assert!(more.await.is_err(), "there was room for more");
        fast.send(()).unwrap();
        disk.join().unwrap();
        writer.write(&file, &source, b"more\n".into()).await.unwrap();
        writer.flushed().await;
        let text = std::fs::read_to_string(folder.path().join("shop.log")).unwrap();
        assert_eq!(text.lines().count(), WAITING + 1);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_for_the_log_from_then_on() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("shop.log")).unwrap();
        let (writer, file) = (Writer::start().unwrap(), app_file(&folder));
        writer.write(&file, &source(), b"first\n".into()).await.unwrap();
        writer.flushed().await;
        assert_eq!(writer.write(&file, &source(), b"second\n".into()).await, Err(b"second\n".into()));
    }
}
