//! A backup whose every byte was compared with its checksums.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Tell;
use super::directory::{PARTIAL, hex, read};
use super::manifest::{Kept, MANIFEST, Manifest, SUMS};

/// Bytes read at a time, and sent at a time.
const PIECE: usize = 512 * 1024;

/// A backup that is intact.
#[derive(Debug)]
pub struct Verified {
    dir: PathBuf,
    manifest: Manifest,
}

impl Verified {
    /// Reads all of it.
    ///
    /// # Errors
    /// What is wrong with it, and with which file.
    pub async fn open(dir: &Path, tell: Tell) -> anyhow::Result<Self> {
        ensure!(dir.is_dir(), "{} is not a directory", dir.display());
        ensure!(
            !dir.as_os_str().to_string_lossy().ends_with(PARTIAL),
            "{} was interrupted before it was complete; it cannot be used",
            dir.display()
        );
        let manifest = manifest(dir)?;
        let verified = Self {
            dir: dir.to_owned(),
            manifest,
        };
        for kept in &verified.manifest.streams {
            let mut pieces = verified.pieces(kept)?;
            while pieces.next()?.is_some() {
                // So that Ctrl-C is heard.
                tokio::task::yield_now().await;
            }
            tell.say(format_args!(
                "verified   {:<20} {:>10} messages",
                kept.name, kept.state.messages
            ))?;
        }
        Ok(verified)
    }

    /// What it holds.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it holds.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// A stream's copy, piece by piece.
    ///
    /// # Errors
    /// The file is not there.
    pub fn pieces(&self, kept: &Kept) -> anyhow::Result<Pieces> {
        // A name with a slash would lead out of the directory.
        ensure!(
            !kept.file.contains('/') && !kept.file.starts_with('.'),
            "{MANIFEST} names a file elsewhere"
        );
        let path = self.dir.join(&kept.file);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{} is missing", path.display())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Pieces {
            path,
            file,
            hash: Sha256::new(),
            left: kept.bytes,
            sha256: kept.sha256.clone(),
        })
    }
}

/// The manifest, compared with its checksum.
fn manifest(dir: &Path) -> anyhow::Result<Manifest> {
    for needed in [SUMS, MANIFEST] {
        ensure!(
            dir.join(needed).is_file(),
            "{} is not a complete backup: it has no {needed}",
            dir.display()
        );
    }
    let sums = read(&dir.join(SUMS))?;
    let bytes = read(&dir.join(MANIFEST))?;
    let line = format!("{}  {MANIFEST}\n", hex(&Sha256::digest(&bytes)));
    ensure!(
        String::from_utf8_lossy(&sums).contains(&line),
        "{} is damaged: it does not match its checksum in {SUMS}",
        dir.join(MANIFEST).display()
    );
    Manifest::read(&bytes).with_context(|| format!("cannot use {}", dir.join(MANIFEST).display()))
}

/// A file that is compared with its checksum while it is read.
#[derive(Debug)]
pub struct Pieces {
    path: PathBuf,
    file: File,
    hash: Sha256,
    left: u64,
    sha256: String,
}

impl Pieces {
    /// The next piece; `None` after the last, when all of them match the checksum.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        let read = self.file.read(&mut piece);
        let read = read.with_context(|| format!("cannot read {}", self.path.display()))?;
        piece.truncate(read);
        self.hash.update(&piece);
        let left = self.left.checked_sub(read as u64);
        let damaged = || format!("{} is damaged", self.path.display());
        self.left = left.with_context(|| format!("{}: it is too long", damaged()))?;
        if read > 0 {
            return Ok(Some(piece.into()));
        }
        ensure!(
            self.left == 0,
            "{}: {} bytes are missing at its end",
            damaged(),
            self.left
        );
        let found = hex(&self.hash.clone().finalize());
        ensure!(
            found == self.sha256,
            "{}: it does not match its checksum",
            damaged()
        );
        Ok(None)
    }
}
