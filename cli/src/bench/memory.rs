//! How much memory a process has, as the kernel counts it. 0 for one that has just ended.

/// What it has alone, and its part of what it shares with others (proportional set size), in bytes.
pub(super) fn proportional(pid: u32) -> u64 {
    bytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// All that is in memory of it (resident set size), in bytes: what processes share counts for each of them.
pub(super) fn resident(pid: u32) -> u64 {
    bytes(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

fn bytes(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_no_more_than_is_resident_and_one_that_ended_has_nothing() {
        let (part, all) = (
            super::proportional(std::process::id()),
            super::resident(std::process::id()),
        );
        assert!(0 < part && part <= all, "{part} of {all}");
        assert_eq!(super::resident(u32::MAX), 0);
    }
}
