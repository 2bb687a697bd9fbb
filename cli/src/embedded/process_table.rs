//! Looking at processes through `/proc`.

use std::fs;
use std::path::Path;

/// Parent and state of a process, as `/proc/<pid>/stat` says.
struct Stat {
    parent: u32,
    state: char,
}

/// The pids whose parent is `pid`.
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&candidate| stat(candidate).is_some_and(|stat| stat.parent == pid))
        .collect()
}

/// Whether a process with this pid runs; one that ended and waits to be collected does not.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Returns when every thread of `pids` has stopped after a `SIGSTOP`, or is gone: a signal is *sent* at once, but a
/// thread on another processor runs on for a moment, long enough to answer a request.
pub async fn until_stopped(pids: &[u32]) {
    while !pids.iter().all(|&pid| all_threads_stopped(pid)) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn all_threads_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    let mut states = threads.filter_map(|thread| stat_at(&thread.ok()?.path().join("stat")));
    states.all(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
}

/// The user id a process runs as, `None` if there is no such process.
pub fn user_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // Uid: real, effective, saved, file system.
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

fn stat(pid: u32) -> Option<Stat> {
    stat_at(Path::new(&format!("/proc/{pid}/stat")))
}

fn stat_at(path: &Path) -> Option<Stat> {
    let text = fs::read_to_string(path).ok()?;
    // The name, in parentheses, may hold blanks and parentheses itself.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { parent, state })
}
