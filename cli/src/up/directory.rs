//! The directory of one `up`: taken by a lock, and where the addresses are written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::addresses::as_shell;

/// A directory that is ours until the value is dropped or we are dead.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if needed, and takes it. The system gives the lock back when this process ends, however
    /// it ends.
    ///
    /// # Errors
    /// If another `up` has it, saying which.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        // Others may enter: as root, Postgres runs as nobody.
        let builder = &mut DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(path.join("log"))
            .with_context(|| format!("cannot create {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", path.display()))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder)?;
                bail!(
                    "another `chat4all up` (process {}) runs in {}; stop it, or choose another --dir",
                    holder.trim(),
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, _lock: lock })
    }

    /// A place in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes variables to `env`, for a shell to source and for our own eyes only: there are secrets among them.
    ///
    /// # Errors
    /// If the file cannot be written; the old one is then still whole.
    pub fn write_env(&self, variables: &[(String, String)]) -> anyhow::Result<()> {
        let (new, path) = (self.join("env.new"), self.join("env"));
        let write = || -> std::io::Result<()> {
            // A leftover might be readable by others.
            let _ = fs::remove_file(&new);
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(as_shell(variables).as_bytes())?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}
