//! What a new process does to itself before its program is executed: limits, control group, user. Runs between
//! fork and exec, under the rules of [`child`].

use crate::child::{self, errno, fail, fail_at, miss};
use crate::word::{CONTROL_GROUP, Stage};
use libc::{c_int, gid_t, uid_t};
use std::os::fd::{OwnedFd, RawFd};

/// Whom a worker runs as.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) uid: uid_t,
    pub(crate) gid: gid_t,
    pub(crate) groups: Vec<gid_t>,
}

/// A limit that the process applies to itself.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) step: Step,
    /// Without it the program is not executed.
    pub(crate) required: bool,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// The number in digits.
    OomScoreAdj(Vec<u8>),
    Nice(c_int),
    /// Soft and hard limit.
    Rlimit {
        resource: u32,
        value: u64,
    },
    NoNewPrivs,
}

/// The worker's control group.
#[derive(Debug)]
pub(crate) struct Group {
    /// It itself, by `O_PATH`.
    pub(crate) folder: OwnedFd,
    /// Its `cgroup.procs`.
    pub(crate) processes: OwnedFd,
    /// Without it the program is not executed.
    pub(crate) required: bool,
}

/// Applies those of the limits that `now` picks, and says what could not be done.
pub(crate) fn apply(limits: &[Limit], words: RawFd, now: impl Fn(&Step) -> bool) {
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| now(&limit.step)) {
        match set(&limit.step) {
            Ok(()) => {}
            Err(errno) if limit.required => fail_at(words, Stage::Limit, errno, index, 0, &[]),
            Err(errno) => miss(words, u8::try_from(index).unwrap_or(CONTROL_GROUP), errno),
        }
    }
}

fn set(step: &Step) -> Result<(), c_int> {
    let result = match step {
        Step::OomScoreAdj(digits) => return write_to(c"/proc/self/oom_score_adj", digits),
        // SAFETY: no memory is involved.
        Step::Nice(nice) => unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, *nice) },
        Step::Rlimit { resource, value } => {
            let limit = libc::rlimit { rlim_cur: *value, rlim_max: *value };
            // SAFETY: `limit` outlives the call, and is only read.
            unsafe { libc::setrlimit(*resource, &raw const limit) }
        }
        // SAFETY: no memory is involved.
        Step::NoNewPrivs => unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
    };
    if result == -1 { Err(errno()) } else { Ok(()) }
}

fn write_to(path: &std::ffi::CStr, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: `path` is a null-terminated string, and `text` as long as it is said to be.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file == -1 {
            return Err(errno());
        }
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        let failure = errno();
        libc::close(file);
        if written == -1 { Err(failure) } else { Ok(()) }
    }
}

/// Joins the control group, before anything of the app's can run outside of it.
pub(crate) fn join(group: Option<&Group>, words: RawFd) {
    let Some(group) = group else { return };
    // SAFETY: the text is as long as it is said to be.
    if unsafe { libc::write(child::GROUP, b"0".as_ptr().cast(), 1) } == 1 {
        return;
    }
    match errno() {
        errno if group.required => fail(words, Stage::ControlGroup, errno),
        errno => miss(words, CONTROL_GROUP, errno),
    }
}

/// Becomes the worker's user for good, and makes sure of it.
pub(crate) fn become_user(ids: &Ids) -> Result<(), c_int> {
    // SAFETY: `groups` is as long as it is said to be; there is one thread, so nothing has to be told to others.
    unsafe {
        if libc::setgroups(ids.groups.len(), ids.groups.as_ptr()) == -1
            || libc::setresgid(ids.gid, ids.gid, ids.gid) == -1
            || libc::setresuid(ids.uid, ids.uid, ids.uid) == -1
        {
            return Err(errno());
        }
    }
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    let [ruid, euid, suid] = &mut uids;
    let [rgid, egid, sgid] = &mut gids;
    // SAFETY: six places that are written to, and outlive the calls.
    unsafe {
        if libc::getresuid(ruid, euid, suid) == -1 || libc::getresgid(rgid, egid, sgid) == -1 {
            return Err(errno());
        }
    }
    // SAFETY: no memory is involved.
    let back = ids.uid != 0 && unsafe { libc::setuid(0) } == 0;
    if back || uids != [ids.uid; 3] || gids != [ids.gid; 3] { Err(libc::EPERM) } else { Ok(()) }
}
