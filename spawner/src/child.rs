//! What runs between fork and exec, and nothing else. Everything it needs is made before the fork: from there on
//! only async-signal-safe calls, no allocation, no way back.
//!
//! Two forks, so that the keeper becomes the worker's parent: the process between the two ends at once.

use crate::confine::{Group, Ids, Limit, Step, apply, become_user, join};
use crate::word::{FAILED, HEAD, HEADER, MISSED, PID, Stage, WORD};
use libc::{c_char, c_int, pid_t};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What is executed.
#[derive(Debug)]
pub(crate) enum Image {
    /// The first of these paths that is there.
    Paths(Vec<CString>),
    /// An executable that is open already.
    Open(OwnedFd),
}

/// What a loader gets beside what every worker has.
#[derive(Debug)]
pub(crate) struct LoaderEnds {
    /// Its own text, to read.
    pub(crate) text: OwnedFd,
    /// Its end of control.
    pub(crate) control: OwnedFd,
}

/// A worker's process before it is one.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) keeper: pid_t,
    /// Our end of the channel that carries [`Word`](crate::word::Word)s.
    pub(crate) words: OwnedFd,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// For descriptor 3: in a preloader something that keeps it free, since there the listeners of forked workers go.
    pub(crate) listener: Option<OwnedFd>,
    /// For descriptors 4 and 5, where one of our loaders is what is started.
    pub(crate) loader: Option<LoaderEnds>,
    /// `no_new_privs` last.
    pub(crate) limits: Vec<Limit>,
    pub(crate) group: Option<Group>,
    pub(crate) umask: libc::mode_t,
    /// `None`: as the spawner.
    pub(crate) ids: Option<Ids>,
    /// The working directory, and before it all of its parents, from the top.
    pub(crate) levels: Vec<CString>,
    pub(crate) image: Image,
    pub(crate) arguments: Pointers,
    pub(crate) environment: Pointers,
    /// Which entry of the environment ends in room for the process's own id.
    pub(crate) own_pid_entry: Option<usize>,
}

/// A null-terminated array of strings, as `execve(2)` wants it.
#[derive(Debug)]
pub(crate) struct Pointers {
    strings: Vec<Vec<u8>>,
    pointers: Vec<*mut c_char>,
}

impl Pointers {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        // Bytes rather than `CString`, since one of them is completed after the fork.
        let mut strings: Vec<Vec<u8>> = strings.into_iter().map(CString::into_bytes_with_nul).collect();
        let mut pointers: Vec<*mut c_char> = strings.iter_mut().map(|string| string.as_mut_ptr().cast()).collect();
        pointers.push(std::ptr::null_mut());
        Self { strings, pointers }
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr().cast()
    }
}

/// Digits of the largest process id there can be.
pub(crate) const PID_DIGITS: usize = 10;

/// Starts it, and answers with the process between, which ends in a moment. The rest comes as [`Word`](crate::word::Word)s.
///
/// # Errors
/// When the process limit is reached, or memory is short.
pub(crate) fn start(prepared: &mut Prepared) -> io::Result<pid_t> {
    // SAFETY: this process has one thread, and the child runs only what is below in this file.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => between(prepared),
        pid => Ok(pid),
    }
}

fn between(prepared: &mut Prepared) -> ! {
    match fork_into(prepared.group.as_ref()) {
        Some(0) => {
            // It is in there already.
            prepared.group = None;
            worker(prepared)
        }
        Some(_) => leave(0),
        None => {}
    }
    // SAFETY: as above.
    match unsafe { libc::fork() } {
        -1 => fail(prepared.words.as_raw_fd(), Stage::Fork, errno()),
        0 => worker(prepared),
        _ => leave(0),
    }
}

/// As the kernel has it; the C library's is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Forks a process that begins in a control group: to join one later waits for all processors to have passed some
/// point, which is milliseconds. `None`: there is none, or the kernel won't (before 5.7); what joining it says is told.
fn fork_into(group: Option<&Group>) -> Option<libc::c_long> {
    let group = group?.folder.as_raw_fd();
    // SAFETY: all bytes zero is a valid `clone_args`, as is what is set here: a fork, with nothing shared. This process
    // has one thread, and its child runs only what is in this file.
    let child = unsafe {
        let mut arguments: libc::clone_args = std::mem::zeroed();
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.cgroup = group as u64;
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    (child != -1).then_some(child)
}

fn worker(prepared: &mut Prepared) -> ! {
    let words = prepared.words.as_raw_fd();
    if !say_own_pid(words) {
        leave(1);
    }
    if !parent_became(prepared.keeper) {
        fail(words, Stage::Parent, libc::ESRCH);
    }
    // SAFETY: no memory is involved. The worker leads its session, hence its process group: both have its pid.
    if unsafe { libc::setsid() } == -1 {
        fail(words, Stage::Session, errno());
    }
    default_signals();
    let words = match place_descriptors(prepared) {
        Ok(words) => words,
        Err(errno) => fail(words, Stage::Descriptors, errno),
    };
    // With all privileges still there.
    apply(&prepared.limits, words, |step| !matches!(step, Step::NoNewPrivs));
    join(prepared.group.as_ref(), words);
    // SAFETY: no memory is involved.
    unsafe { libc::umask(prepared.umask) };
    if let Some(ids) = &prepared.ids
        && let Err(errno) = become_user(ids)
    {
        fail(words, Stage::Identity, errno);
    }
    apply(&prepared.limits, words, |step| matches!(step, Step::NoNewPrivs));
    enter(prepared, words);
    // Last, since it is of no use before the parent is the keeper, and is lost on becoming another user; and then
    // the parent may just have gone.
    // SAFETY: no memory is involved.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == -1 {
        fail(words, Stage::DeathSignal, errno());
    }
    // SAFETY: no memory is involved.
    if unsafe { libc::getppid() } != prepared.keeper {
        leave(1);
    }
    write_own_pid(prepared);
    execute(prepared, words)
}

/// The worker says it itself, first of all: a process that the spawner knows nothing of can't come further than
/// this, since to one that has given up nothing can be said.
fn say_own_pid(words: RawFd) -> bool {
    let mut word = [PID; 1 + size_of::<pid_t>()];
    // SAFETY: no memory is involved.
    word[1..].copy_from_slice(&unsafe { libc::getpid() }.to_ne_bytes());
    say(words, &word)
}

/// Waits until the process between has gone, at most a second or two.
fn parent_became(keeper: pid_t) -> bool {
    const TRIES: u32 = 1100;
    for attempt in 0..TRIES {
        // SAFETY: no memory is involved.
        if unsafe { libc::getppid() } == keeper {
            return true;
        }
        if attempt < 100 {
            // SAFETY: no memory is involved.
            unsafe { libc::sched_yield() };
        } else {
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            // SAFETY: `pause` outlives the call, and the rest of an interrupted sleep is not asked for.
            unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        }
    }
    false
}

/// What is ignored stays ignored over an exec, and so does a mask.
fn default_signals() {
    // The kernel's own `struct sigaction`, whatever its layout: the default action, no flags, an empty mask.
    let default = [0_u64; 8];
    const SET: usize = 8;
    for signal in 1..=64 {
        // Past the C library, which refuses 32 and 33: they are its own, and may be ignored by inheritance. The
        // kernel refuses KILL and STOP, which are as they should be.
        // SAFETY: `default` is at least as long as the kernel's structure, and only read.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), SET);
        }
    }
    // SAFETY: as above; a signal set of the kernel's has `SET` bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, default.as_ptr(), std::ptr::null_mut::<u64>(), SET);
    }
}

/// Where the executable is, if it is open already.
const IMAGE: RawFd = 7;
/// Where the control group's list of processes is, if there is one.
pub(crate) const GROUP: RawFd = 8;

/// Puts each descriptor at its number and closes all others for good, so that a program that takes long to load
/// holds nothing of the spawner's. Answers with the new number of our end of the words' channel.
///
/// First everything goes above the numbers in use here, or one `dup2` could destroy the source of the next.
fn place_descriptors(prepared: &mut Prepared) -> Result<RawFd, c_int> {
    const WORDS: RawFd = 6;
    let stdin = above(prepared.stdin.as_raw_fd())?;
    let stdout = above(prepared.stdout.as_raw_fd())?;
    let stderr = above(prepared.stderr.as_raw_fd())?;
    let listener = prepared.listener.as_ref().map(|listener| above(listener.as_raw_fd())).transpose()?;
    let loader = prepared.loader.as_ref();
    let text = loader.map(|loader| above(loader.text.as_raw_fd())).transpose()?;
    let control = loader.map(|loader| above(loader.control.as_raw_fd())).transpose()?;
    let words = above(prepared.words.as_raw_fd())?;
    let image = match &prepared.image {
        Image::Open(image) => Some(above(image.as_raw_fd())?),
        Image::Paths(_) => None,
    };
    let group = prepared.group.as_ref().map(|group| above(group.processes.as_raw_fd())).transpose()?;
    let inherited = [(Some(stdin), 0), (Some(stdout), 1), (Some(stderr), 2), (listener, 3), (text, 4), (control, 5)];
    for (from, to) in inherited {
        put(from, to, 0)?;
        if from.is_some() {
            // Programs expect to wait in `accept` and `write`.
            blocking(to)?;
        }
    }
    put(Some(words), WORDS, libc::O_CLOEXEC)?;
    put(image, IMAGE, libc::O_CLOEXEC)?;
    put(group, GROUP, libc::O_CLOEXEC)?;
    // SAFETY: nothing of this process uses a descriptor above any more.
    if unsafe { libc::close_range(GROUP as u32 + 1, u32::MAX, 0) } == -1 {
        return Err(errno());
    }
    Ok(WORDS)
}

fn above(descriptor: RawFd) -> Result<RawFd, c_int> {
    const FIRST_FREE: RawFd = 10;
    // SAFETY: no memory is involved; the new descriptor is closed by `place_descriptors`.
    match unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, FIRST_FREE) } {
        -1 => Err(errno()),
        copy => Ok(copy),
    }
}

/// `to` becomes a copy of `from`, or closed.
fn put(from: Option<RawFd>, to: RawFd, flags: c_int) -> Result<(), c_int> {
    match from {
        // SAFETY: no memory is involved; what was at `to` is in no use here.
        Some(from) if unsafe { libc::dup3(from, to, flags) } == -1 => Err(errno()),
        Some(_) => Ok(()),
        None => {
            // SAFETY: as above. Nothing may have been there.
            unsafe { libc::close(to) };
            Ok(())
        }
    }
}

fn blocking(descriptor: RawFd) -> Result<(), c_int> {
    // SAFETY: no memory is involved.
    unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        if flags == -1 {
            return Err(errno());
        }
        if flags & libc::O_NONBLOCK != 0 && libc::fcntl(descriptor, libc::F_SETFL, flags & !libc::O_NONBLOCK) == -1 {
            return Err(errno());
        }
    }
    Ok(())
}

/// Enters the working directory, or says which of its levels refuses.
fn enter(prepared: &Prepared, words: RawFd) {
    for (index, level) in prepared.levels.iter().enumerate() {
        // SAFETY: `level` is a null-terminated string.
        if unsafe { libc::chdir(level.as_ptr()) } == -1 {
            let errno = errno();
            fail_at(words, Stage::Directory, errno, index, mode(level), &[]);
        }
    }
}

/// Completes `LISTEN_PID=`.
fn write_own_pid(prepared: &mut Prepared) {
    let Some(entry) = prepared.own_pid_entry else { return };
    let room = &mut prepared.environment.strings[entry];
    // SAFETY: no memory is involved.
    let mut rest = unsafe { libc::getpid() }.unsigned_abs();
    let mut digits = [0; PID_DIGITS];
    let mut count = 0;
    while rest > 0 && count < PID_DIGITS {
        digits[count] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        count += 1;
    }
    // The room is `PID_DIGITS` bytes and the null; what it holds is spaces.
    let start = room.len() - 1 - PID_DIGITS;
    for (index, digit) in digits[..count].iter().rev().enumerate() {
        room[start + index] = *digit;
    }
    room[start + count] = 0;
    // The entry may have been written through another pointer than the one in the array.
    prepared.environment.pointers[entry] = room.as_mut_ptr().cast();
}

fn execute(prepared: &Prepared, words: RawFd) -> ! {
    let (argv, envp) = (prepared.arguments.as_ptr(), prepared.environment.as_ptr());
    let paths = match &prepared.image {
        Image::Open(_) => {
            // SAFETY: both arrays are null-terminated, as are their strings, and live as long as this process.
            unsafe { libc::execveat(IMAGE, c"".as_ptr(), argv.cast(), envp.cast(), libc::AT_EMPTY_PATH) };
            fail(words, Stage::Execute, errno())
        }
        Image::Paths(paths) => paths,
    };
    let mut refused = None;
    let mut closed = None;
    for (index, path) in paths.iter().enumerate() {
        // SAFETY: as above, and `path` is a null-terminated string.
        unsafe { libc::execve(path.as_ptr(), argv, envp) };
        match errno() {
            // Something is there, though: the program itself is not what is missing.
            libc::ENOENT if mode(path) != 0 => fail_with_head(words, libc::ENOENT, index, path),
            libc::ENOENT | libc::ENOTDIR => {}
            // A folder of the PATH that can't be entered keeps nothing from being in the next.
            libc::EACCES if mode(path) == 0 => closed = closed.or(Some(index)),
            libc::EACCES => refused = refused.or(Some(index)),
            errno => fail_with_head(words, errno, index, path),
        }
    }
    match (refused, closed) {
        (Some(index), _) => fail_at(words, Stage::Execute, libc::EACCES, index, mode(&paths[index]), &[]),
        (None, Some(index)) => fail_at(words, Stage::Execute, libc::EACCES, index, 0, &[]),
        (None, None) => fail(words, Stage::Execute, libc::ENOENT),
    }
}

/// The mode of what is at `path`; 0 if nothing is.
fn mode(path: &CString) -> u32 {
    // SAFETY: all bytes zero is a valid `stat`; `path` is a null-terminated string.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::stat(path.as_ptr(), &raw mut stat) == -1 { 0 } else { stat.st_mode }
    }
}

fn fail_with_head(words: RawFd, errno: c_int, index: usize, path: &CString) -> ! {
    let mode = mode(path);
    let mut head = [0_u8; HEAD];
    let mut len = 0;
    if mode & libc::S_IFMT == libc::S_IFREG {
        // SAFETY: `path` is a null-terminated string; `head` is as long as it is said to be. The descriptor goes
        // with the process.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK);
            if file != -1 {
                len = usize::try_from(libc::read(file, head.as_mut_ptr().cast(), HEAD)).unwrap_or(0);
            }
        }
    }
    fail_at(words, Stage::Execute, errno, index, mode, &head[..len])
}

pub(crate) fn fail(words: RawFd, stage: Stage, errno: c_int) -> ! {
    fail_at(words, stage, errno, usize::from(u16::MAX), 0, &[])
}

pub(crate) fn fail_at(words: RawFd, stage: Stage, errno: c_int, index: usize, mode: u32, head: &[u8]) -> ! {
    let mut word = [0; WORD];
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    word[0] = FAILED;
    word[1] = stage as u8;
    word[2..4].copy_from_slice(&index.to_ne_bytes());
    word[4..8].copy_from_slice(&errno.to_ne_bytes());
    word[8..12].copy_from_slice(&mode.to_ne_bytes());
    let len = HEADER + head.len().min(HEAD);
    word[HEADER..len].copy_from_slice(&head[..len - HEADER]);
    say(words, &word[..len]);
    leave(127)
}

pub(crate) fn miss(words: RawFd, limit: u8, errno: c_int) {
    let mut word = [0; 2 + size_of::<c_int>()];
    word[0] = MISSED;
    word[1] = limit;
    word[2..].copy_from_slice(&errno.to_ne_bytes());
    // Whether somebody listens is seen by the parent-death signal.
    say(words, &word);
}

/// False if nobody listens any more.
fn say(words: RawFd, word: &[u8]) -> bool {
    // SAFETY: `word` is as long as it is said to be.
    unsafe { libc::send(words, word.as_ptr().cast(), word.len(), libc::MSG_NOSIGNAL) != -1 }
}

fn leave(status: c_int) -> ! {
    // SAFETY: ends the process without running what was registered for its end.
    unsafe { libc::_exit(status) }
}

pub(crate) fn errno() -> c_int {
    // SAFETY: always a valid pointer to this thread's own.
    unsafe { *libc::__errno_location() }
}
