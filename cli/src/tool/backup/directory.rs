//! The directory a backup is written to, until it has its name.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

/// What an unfinished backup's name ends in.
pub const PARTIAL: &str = ".partial";

/// A directory that is not a backup yet. Dropped before it has its name, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    wanted: PathBuf,
    partial: PathBuf,
    named: bool,
}

impl Unfinished {
    /// Makes `<wanted>.partial`, for the owner's eyes only.
    ///
    /// # Errors
    /// `wanted` exists, or an unfinished backup of that name does.
    pub fn begin(wanted: &Path) -> anyhow::Result<Self> {
        if wanted.symlink_metadata().is_ok() {
            bail!(
                "{} exists; a backup is made in a new directory",
                wanted.display()
            );
        }
        let mut partial = OsString::from(wanted);
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        match DirBuilder::new().mode(0o700).create(&partial) {
            Ok(()) => Ok(Self {
                wanted: wanted.to_owned(),
                partial,
                named: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                "{} is there: a backup of that name was interrupted, or is being made; if none is, remove it",
                partial.display()
            ),
            Err(error) => Err(cannot_write(error, &partial)),
        }
    }

    /// A new file in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn file(&self, name: &str) -> anyhow::Result<Writing> {
        let path = self.partial.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot_write(error, &path))?;
        Ok(Writing {
            path,
            file,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    /// Gives it its name, once every file is on the disk.
    ///
    /// # Errors
    /// The disk does not do it.
    pub fn name(mut self) -> anyhow::Result<()> {
        let synced = |path: &Path| File::open(path).and_then(|dir| dir.sync_all());
        synced(&self.partial).map_err(|error| cannot_write(error, &self.partial))?;
        fs::rename(&self.partial, &self.wanted)
            .map_err(|error| cannot_write(error, &self.wanted))?;
        self.named = true;
        let parent = match self.wanted.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        synced(parent).map_err(|error| cannot_write(error, parent))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named {
            // Nobody needs half a backup, least of all on a full disk.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// A file on its way to the disk.
#[derive(Debug)]
pub struct Writing {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Writing {
    /// Appends.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| cannot_write(error, &self.path))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until it is on the disk; gives its size and SHA-256.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn finish(self) -> anyhow::Result<(u64, String)> {
        self.file
            .sync_all()
            .map_err(|error| cannot_write(error, &self.path))?;
        Ok((self.bytes, hex(&self.hash.finalize())))
    }
}

/// 64 hexadecimal digits.
pub fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cannot_write(error: io::Error, path: &Path) -> anyhow::Error {
    let what = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "there is no room left; the unfinished backup was removed"
        }
        _ => "cannot write",
    };
    anyhow::Error::new(error).context(format!("{what}: {}", path.display()))
}

/// Reads a file of a backup, all of it.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_backup_has_its_name_only_when_it_is_whole_and_is_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let wanted = place.path().join("b");
        drop(Unfinished::begin(&wanted).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);

        let unfinished = Unfinished::begin(&wanted).unwrap();
        let second = Unfinished::begin(&wanted).unwrap_err().to_string();
        assert!(second.contains("b.partial is there"), "{second}");
        let mut file = unfinished.file("f").unwrap();
        file.append(b"abc").unwrap();
        let (bytes, sha256) = file.finish().unwrap();
        assert_eq!(bytes, 3);
        assert_eq!(
            sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(!wanted.exists());
        unfinished.name().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&wanted), mode(&wanted.join("f"))), (0o700, 0o600));
        let again = Unfinished::begin(&wanted).unwrap_err().to_string();
        assert!(again.contains("exists"), "{again}");
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let full = cannot_write(ErrorKind::StorageFull.into(), Path::new("b/f"));
        assert!(full.to_string().contains("no room left"), "{full}");
    }
}
