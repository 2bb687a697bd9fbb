//! The file a server writes its log to, and the end of it for error messages.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::StartError;

/// How much of the end of a log goes into an error message, in bytes.
const TAIL_BYTES: u64 = 2_000;

/// Opens `path` for appending.
///
/// # Errors
/// [`StartError::File`].
pub fn open(path: &Path) -> Result<File, StartError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(StartError::file("open", path))
}

/// What was written to `path` after the first `from` bytes, its last 2,000 bytes at most.
pub fn tail(path: &Path, from: u64) -> String {
    read_tail(path, from).unwrap_or_else(|error| format!("({}: {error})", path.display()))
}

fn read_tail(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(from);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
