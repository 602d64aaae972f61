//! What workers print, line by line: to the log with app and process, or to a file of the app's; and the last of it
//! kept for reports.
//!
//! | bound | value |
//! | --- | --- |
//! | a line, before it is cut in pieces | 8 KiB |
//! | kept of a worker for reports, both streams together | 16 KiB |
//! | kept of an app for `logs` | 200 lines, and 16 KiB |
//! | read of a stream at once | 16 KiB, of which 200 lines are passed on before everybody else is served |
//! | waiting to be written to an app's file | 256 KiB; beyond it the app's pipes are not read, and it blocks |
//!
//! What goes to a file is never dropped; what goes to the log is subject to the log, which drops lines when its
//! reader hangs rather than hold up the pool.

mod files;
mod lines;
mod printed;
mod writer;

pub(super) use lines::{last_of, printable};
pub(super) use printed::Printed;

use super::workers::Role;
use files::{LogFile, file_name};
use hatchery_protocol::config::OutputConfig;
use lines::{Lines, Tail, each_line};
use rustix::fs::{Mode, OFlags, open};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use writer::{AppFile, Writer};

/// How much is read of a stream at once.
const SLICE: usize = 16 * 1024;
/// How many lines are passed on at once.
const LINES: usize = 200;
/// How long the end of the pool waits for a slow disk.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Where output goes.
#[derive(Debug)]
pub(super) struct Outputs {
    /// `None`: to the log.
    files: Option<Files>,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Files {
    folder: Arc<OwnedFd>,
    config: OutputConfig,
    path: PathBuf,
    /// Those that a worker, or what it left behind, may still print to.
    of_apps: HashMap<String, Weak<AppFile>>,
}

/// What all readers share.
#[derive(Debug)]
struct Shared {
    writer: Option<Writer>,
    /// What was just read: one buffer is enough, since nothing waits while it is in use.
    slice: RefCell<Vec<u8>>,
    /// Streams that are read.
    open: Cell<usize>,
    closed: Notify,
}

/// Whose words a line is.
#[derive(Clone, Debug)]
struct Source {
    app: Arc<str>,
    pid: i32,
    role: Role,
    stream: Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Stream {
    fn in_the_log(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }

    /// One word: what reads a file has as many columns whoever printed.
    fn in_files(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::Out, Role::Worker) => "out",
            (Self::Err, Role::Worker) => "err",
            (Self::Out, Role::Preloader) => "preloader-out",
            (Self::Err, Role::Preloader) => "preloader-err",
        }
    }
}

fn log_line(source: &Source, line: &[u8]) {
    let (pid, stream) = (source.pid, source.stream.in_the_log());
    let process = (source.role == Role::Preloader).then_some("preloader");
    let line = printable(&String::from_utf8_lossy(line));
    tracing::info!(target: "app", app = %source.app, pid, process, stream, "{line}");
}

impl Outputs {
    /// A folder that can't be used is said once, and the log takes everything.
    pub(super) fn new(config: &OutputConfig) -> Self {
        let files = config.folder.as_deref().and_then(|path| match begin_files(path, config) {
            Ok(begun) => Some(begun),
            Err(error) => {
                tracing::error!("output_dir {}: {error}; what applications print goes to the log", path.display());
                None
            }
        });
        let (files, writer) = files.unzip();
        let shared = Shared { writer, slice: RefCell::new(vec![0; SLICE]), open: Cell::new(0), closed: Notify::new() };
        Self { files, shared: Rc::new(shared) }
    }

    /// The file of the app that is called so.
    fn path_of(&self, app: &str) -> Option<PathBuf> {
        self.files.as_ref().map(|files| files.path.join(file_name(app)))
    }

    /// The output of a new process of the app that is called so.
    ///
    /// # Errors
    /// When the streams can't be registered with the runtime.
    pub(super) fn of_process(
        &mut self,
        app: &str,
        role: Role,
        printed: &Rc<Printed>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> std::io::Result<Rc<Output>> {
        let streams = [
            (Stream::Out, pipe::Receiver::from_owned_fd(stdout)?),
            (Stream::Err, pipe::Receiver::from_owned_fd(stderr)?),
        ];
        Ok(Rc::new(Output {
            app: app.into(),
            role,
            file: self.files.as_mut().map(|files| files.of_app(app)),
            printed: Rc::clone(printed),
            shared: Rc::clone(&self.shared),
            streams: RefCell::new(streams.into()),
            lines: Default::default(),
            last: RefCell::default(),
            open: Cell::new(2),
            closed: Notify::new(),
        }))
    }

    /// Waits for what is still in the pipes at the end, and until it is written; not for ever.
    pub(super) fn finish(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
        let shared = Rc::clone(&self.shared);
        async move {
            let read = async {
                while shared.open.get() > 0 {
                    shared.closed.notified().await;
                }
            };
            // A process that escaped may hold a pipe for ever.
            let _ = tokio::time::timeout(patience, read).await;
            if let Some(writer) = &shared.writer
                && tokio::time::timeout(LAST_WRITES, writer.flushed()).await.is_err()
            {
                tracing::error!("output_dir: what is not written within {LAST_WRITES:?} of the pool's end is lost");
            }
        }
    }
}

fn begin_files(path: &Path, config: &OutputConfig) -> std::io::Result<(Files, Writer)> {
    // The keeper has made and checked it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(path, flags, Mode::empty())?;
    let (path, config) = (path.to_owned(), config.clone());
    Ok((Files { folder: Arc::new(folder), config, path, of_apps: HashMap::new() }, Writer::start()?))
}

impl Files {
    fn of_app(&mut self, name: &str) -> Arc<AppFile> {
        let name = file_name(name);
        if let Some(file) = self.of_apps.get(&name).and_then(Weak::upgrade) {
            return file;
        }
        self.of_apps.retain(|_, file| file.strong_count() > 0);
        let OutputConfig { max_size, files, .. } = self.config;
        let file = LogFile::new(Arc::clone(&self.folder), name.clone(), max_size, files);
        let file = Arc::new(AppFile::new(file, self.path.clone()));
        self.of_apps.insert(name, Arc::downgrade(&file));
        file
    }
}

/// The output of one process: both its streams.
#[derive(Debug)]
pub(super) struct Output {
    app: Arc<str>,
    role: Role,
    file: Option<Arc<AppFile>>,
    /// The last of it, with that of the app's other processes.
    printed: Rc<Printed>,
    shared: Rc<Shared>,
    /// What is not read yet: until the process has a number, its output waits in the pipes.
    streams: RefCell<Vec<(Stream, pipe::Receiver)>>,
    /// By stream.
    lines: [RefCell<Lines>; 2],
    last: RefCell<Tail>,
    open: Cell<u8>,
    closed: Notify,
}

impl Output {
    /// Reads both streams until the last process that holds them is gone, which may be after the worker.
    pub(super) fn read_from(self: &Rc<Self>, pid: i32) {
        for (stream, receiver) in self.streams.take() {
            self.shared.open.set(self.shared.open.get() + 1);
            let source = Source { app: Arc::clone(&self.app), pid, role: self.role, stream };
            tokio::task::spawn_local(Rc::clone(self).read(source, receiver));
        }
    }

    /// Waits until nobody can print to it any more.
    pub(super) async fn closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// The last of it as text that is safe to print.
    pub(super) fn last(&self) -> String {
        let [out, err] = [self.lines[0].borrow(), self.lines[1].borrow()];
        self.last.borrow().text([out.unfinished(), err.unfinished()])
    }

    async fn read(self: Rc<Self>, source: Source, receiver: pipe::Receiver) {
        let lines = &self.lines[source.stream as usize];
        // A flood fills its pipe and blocks its author: each turn reads one slice, and passes on so many lines, and
        // then everybody else is served.
        while self.read_slice(&receiver, lines).await {
            while self.pass_on(&source).await {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
        let rest = std::mem::take(&mut *lines.borrow_mut());
        if !rest.unfinished().is_empty() {
            let mut rest = rest.unfinished().to_vec();
            self.last.borrow_mut().push(&rest);
            rest.push(b'\n');
            self.hand_over(&source, rest).await;
        }
        self.open.set(self.open.get() - 1);
        self.closed.notify_waiters();
        self.shared.open.set(self.shared.open.get() - 1);
        self.shared.closed.notify_one();
    }

    /// `false`: there is nothing more.
    async fn read_slice(&self, receiver: &pipe::Receiver, lines: &RefCell<Lines>) -> bool {
        loop {
            if receiver.readable().await.is_err() {
                return false;
            }
            let mut slice = self.shared.slice.borrow_mut();
            match receiver.try_read(&mut slice) {
                Ok(0) => return false,
                Ok(read) => {
                    lines.borrow_mut().push(&slice[..read]);
                    return true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Some of the whole lines that were read; `false`: there was none.
    async fn pass_on(&self, source: &Source) -> bool {
        let mut some = Vec::new();
        {
            let mut lines = self.lines[source.stream as usize].borrow_mut();
            let mut last = self.last.borrow_mut();
            for _ in 0..LINES {
                let Some(line) = lines.next() else { break };
                last.push(line);
                some.extend_from_slice(line);
                some.push(b'\n');
            }
        }
        if some.is_empty() {
            return false;
        }
        self.hand_over(source, some).await;
        true
    }

    /// Whole lines, to the file or to the log.
    async fn hand_over(&self, source: &Source, mut lines: Vec<u8>) {
        self.printed.add(source, &lines);
        if let (Some(file), Some(writer)) = (&self.file, &self.shared.writer) {
            match writer.write(file, source, lines).await {
                Ok(()) => return,
                Err(unwritten) => lines = unwritten,
            }
        }
        each_line(&lines).for_each(|line| log_line(source, line));
    }
}
