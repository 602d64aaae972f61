//! How much processor time a process has used, from `/proc`.

use std::time::Duration;

/// Of all its threads, and of the children it has waited for; also while it is a zombie. `None` if there is no such
/// process, or it can't be read.
pub(crate) fn of(pid: i32) -> Option<Duration> {
    in_stat(&stat(pid)?, 4)
}

/// The same without its children.
pub(crate) fn own(pid: i32) -> Option<Duration> {
    in_stat(&stat(pid)?, 2)
}

fn stat(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// The first so many of `utime`, `stime`, `cutime`, `cstime`: the 14th to 17th field. The second is a name in brackets,
/// which may hold anything, brackets and spaces included.
fn in_stat(stat: &str, wanted: usize) -> Option<Duration> {
    let behind_name = stat.get(stat.rfind(')')? + 1..)?;
    let fields = behind_name.split_ascii_whitespace().skip(11).take(wanted);
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let total: u64 = (ticks.len() == wanted).then(|| ticks.iter().sum())?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(total as f64 / per_second as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let per_second = rustix::param::clock_ticks_per_second();
        let stat = format!("42 (a) b ( 1 2) S 1 1 1 0 -1 4194304 1 2 3 4 {per_second} 0 {per_second} 0 20 0 1 0");
        assert_eq!(in_stat(&stat, 4), Some(Duration::from_secs(2)));
        assert_eq!(in_stat(&stat, 2), Some(Duration::from_secs(1)));
        assert_eq!(in_stat("42 (cut off) S 1 1", 4), None);
    }

    #[test]
    fn what_a_process_computes_is_seen() {
        let own = std::process::id().cast_signed();
        let before = of(own).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while of(own).unwrap() == before {
            assert!(std::time::Instant::now() < until, "no tick was counted");
        }
        assert_eq!(of(-1), None);
    }
}
