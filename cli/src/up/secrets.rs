//! The secrets of this installation: made once, kept in the directory, for our own eyes only.
//!
//! The id secret names identities and direct conversations for ever: whoever keeps the log must keep this file with it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, ensure};

use super::directory::Directory;

/// What roles need and nobody should have to think up.
#[derive(Clone)]
pub struct Secrets {
    /// `ids.secret`: 64 hexadecimal digits.
    pub ids: String,
    /// `auth.hs256_secret`: 64 hexadecimal digits.
    pub auth: String,
    /// What the simulated provider and we know of each other: 64 hexadecimal digits.
    pub provider: String,
}

impl Secrets {
    /// Reads the directory's secrets, or makes them.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not what was written.
    pub fn of(directory: &Directory) -> anyhow::Result<Self> {
        let path = directory.join("secrets");
        let context = || format!("cannot keep secrets in {}", path.display());
        if !path.exists() {
            let (ids, auth, provider) = (random_hex()?, random_hex()?, random_hex()?);
            let new = directory.join("secrets.new");
            let _ = std::fs::remove_file(&new);
            let mut options = OpenOptions::new();
            let mut file = options
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&new)
                .with_context(context)?;
            writeln!(file, "ids {ids}\nauth {auth}\nprovider {provider}").with_context(context)?;
            file.sync_all().with_context(context)?;
            std::fs::rename(&new, &path).with_context(context)?;
        }
        let text = std::fs::read_to_string(&path).with_context(context)?;
        let value = |name| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(str::to_owned).unwrap_or_default()
        };
        let secrets = Self {
            ids: value("ids"),
            auth: value("auth"),
            provider: value("provider"),
        };
        let whole =
            |secret: &str| secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(
            whole(&secrets.ids) && whole(&secrets.auth) && whole(&secrets.provider),
            "{} is damaged: it has the lines `ids`, `auth` and `provider`, each with 64 hexadecimal digits; \
             restore it, or remove the whole directory to begin anew",
            path.display()
        );
        Ok(secrets)
    }
}

/// 32 bytes from the kernel.
fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    let mut random = File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    random
        .read_exact(&mut bytes)
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
