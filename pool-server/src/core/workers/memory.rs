//! How much memory a worker has resident: its main process and what descends from it.
//!
//! Shared pages count for each process that maps them, so this is never less than what is really the tree's own. It is
//! a few short reads per process; what costs more is left to an examination.

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use std::fmt::Write;

/// Processes of a worker that are looked at; an app that forks without end shall not hold up the pool.
const PROCESSES: usize = 1_000;

/// In bytes; `None` if the main process can't be read.
pub(crate) fn resident_tree(pid: i32) -> Option<u64> {
    let mut reader = Reader { path: String::with_capacity(64), content: [0; 4096] };
    let mut pages = reader.resident_pages(pid)?;
    let mut tree = vec![pid];
    let mut next = 0;
    while next < tree.len() && tree.len() < PROCESSES {
        reader.children(tree[next], &mut tree);
        next += 1;
    }
    // A child may be gone by now.
    pages += tree[1..].iter().filter_map(|child| reader.resident_pages(*child)).sum::<u64>();
    in_bytes(pages)
}

/// Of one process.
pub(crate) fn resident(pid: i32) -> Option<u64> {
    let mut reader = Reader { path: String::with_capacity(64), content: [0; 4096] };
    in_bytes(reader.resident_pages(pid)?)
}

fn in_bytes(pages: u64) -> Option<u64> {
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Reads small files of `/proc` one after another.
struct Reader {
    path: String,
    content: [u8; 4096],
}

impl Reader {
    /// The second figure of `statm`.
    fn resident_pages(&mut self, pid: i32) -> Option<u64> {
        self.path.clear();
        let _ = write!(self.path, "/proc/{pid}/statm");
        self.read()?.split(' ').nth(1)?.parse().ok()
    }

    /// Adds the children of all threads of a process, where the kernel lists them (`CONFIG_PROC_CHILDREN`).
    fn children(&mut self, pid: i32, tree: &mut Vec<i32>) {
        self.path.clear();
        let _ = write!(self.path, "/proc/{pid}/task");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(Ok(tasks)) = openat(CWD, self.path.as_str(), flags, Mode::empty()).map(Dir::new) else { return };
        for task in tasks.flatten() {
            let Some(task) = task.file_name().to_str().ok().filter(|name| !name.starts_with('.')) else { continue };
            self.path.clear();
            let _ = write!(self.path, "/proc/{pid}/task/{task}/children");
            let Some(children) = self.read() else { continue };
            tree.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }

    /// The file's beginning: a list of children that is longer is cut, and none of its numbers with it.
    fn read(&mut self) -> Option<&str> {
        let file = openat(CWD, self.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut len = 0;
        while len < self.content.len() {
            match rustix::io::read(&file, &mut self.content[len..]).ok()? {
                0 => break,
                read => len += read,
            }
        }
        let whole = if len < self.content.len() {
            len
        } else {
            self.content.iter().rposition(|byte| *byte == b' ').unwrap_or(0)
        };
        std::str::from_utf8(&self.content[..whole]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_larger_than_its_root_by_all_that_descends_from_it() {
        // The innermost says when all are there, and stays until its input ends.
        let script = r#"exec 3<&0; sh -c 'sh -c "echo ready; read line <&3" & wait' & wait"#;
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let pid = child.id().cast_signed();
        let (own, tree) = (resident(pid).unwrap(), resident_tree(pid).unwrap());
        assert!(own > 100_000);
        if std::path::Path::new(&format!("/proc/{pid}/task/{pid}/children")).exists() {
            assert!(tree > own * 2, "{tree} is not more than twice {own}");
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(resident_tree(pid), None);
    }

    #[test]
    fn children_of_every_thread_are_found() {
        let own = std::process::id().cast_signed();
        if !std::path::Path::new(&format!("/proc/{own}/task/{own}/children")).exists() {
            return eprintln!("SKIPPED children_of_every_thread_are_found: this kernel does not list children");
        }
        // Tests run in threads of their own, not in the main one.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut tree = vec![own];
        Reader { path: String::new(), content: [0; 4096] }.children(own, &mut tree);
        assert!(tree.contains(&child.id().cast_signed()), "{tree:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
