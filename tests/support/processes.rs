//! Looking at processes, as an operator would: through `/proc`.

use std::path::Path;

/// The processes that carry a variable with a value, or with one that begins with it and a dot.
pub fn marked(variable: &str, value: &str) -> Vec<i32> {
    let mut found = hatchery_protocol::mark::processes(variable, value, true);
    found.retain(|pid| !is_zombie(*pid));
    found
}

/// Everything of the pool with this random id: keeper, core, spawner, workers and all they started.
pub fn of_pool(pool: &str) -> Vec<i32> {
    let mut found = marked("HATCHERY_POOL", pool);
    found.extend(marked("HATCHERY_WORKER", pool));
    found.sort_unstable();
    found.dedup();
    found
}

/// The pool's id, from its keeper's environment.
pub fn pool_id(keeper: i32) -> String {
    hatchery_protocol::mark::of(keeper, "HATCHERY_POOL").expect("the keeper carries its mark")
}

pub fn command_line(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// The process of a role (`core`, `spawner`) below this keeper.
pub fn role(keeper: i32, role: &str) -> Option<i32> {
    children(keeper).into_iter().find(|pid| command_line(*pid).trim_end().ends_with(role))
}

pub fn children(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|child| parent(*child) == Some(pid)).collect()
}

fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, parent)| parent)
}

pub fn is_zombie(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'Z')
}

pub fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    // It may have gone by itself meanwhile.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Open descriptors, sorted by what they are.
pub fn descriptors(pid: i32) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut kinds: Vec<String> =
        entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).map(|link| kind(&link)).collect();
    kinds.sort();
    kinds
}

fn kind(link: &Path) -> String {
    let text = link.to_string_lossy();
    text.split_once(":[").map_or(text.clone().into_owned(), |(kind, _)| kind.to_owned())
}
