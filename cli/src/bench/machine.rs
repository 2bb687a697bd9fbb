//! The machine that it came out on.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub processors: usize,
    pub model: String,
    pub memory_gib: f64,
    pub kernel: String,
    /// Load average of the last minute, before anything was started.
    pub load_before: f64,
}

impl Machine {
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split(':').nth(1));
            value.unwrap_or("unknown").trim().to_owned()
        };
        let number = |text: &str| {
            let first = text.split(' ').next();
            first.and_then(|first| first.parse().ok())
        };
        let kib = field(&read("/proc/meminfo"), "MemTotal");
        Self {
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            model: field(&read("/proc/cpuinfo"), "model name"),
            memory_gib: number(&kib).unwrap_or(f64::NAN) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: number(&read("/proc/loadavg")).unwrap_or(f64::NAN),
        }
    }
}
