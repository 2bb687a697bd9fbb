//! Directories of servers: made, locked, and for tests removed again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StartError;

/// How long a server that is just dying may still hold its directory: Postgres gives its children 5 s.
const PREDECESSOR_GRACE: Duration = Duration::from_secs(6);

/// A directory that is removed when the value is dropped, for the servers of one test.
///
/// Unlike most temporary directories others may enter it: as root, Postgres runs as nobody.
///
/// # Errors
/// When it cannot be made.
pub fn temp_dir() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("chat4all-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
}

/// Makes `path` and its parents, and returns it in absolute form.
pub fn create(path: &Path) -> Result<PathBuf, StartError> {
    fs::create_dir_all(path).map_err(StartError::file("create", path))?;
    path.canonicalize()
        .map_err(StartError::file("resolve", path))
}

/// Takes `dir` for one server. The lock belongs to the open file: given to the server as its standard input, it
/// holds exactly as long as the server lives, even when we are killed, and no lock is ever left behind.
pub async fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .map_err(StartError::file("open", &path))?;
    let deadline = Instant::now() + PREDECESSOR_GRACE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::DirectoryInUse {
                    path: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(StartError::file("lock", path)(source)),
        }
    }
}
