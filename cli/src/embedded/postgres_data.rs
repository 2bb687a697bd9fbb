//! The data directory of a Postgres: made once, and only read by the version that made it.

use std::fs;
use std::path::Path;

use super::postgres::{NAME, START_PATIENCE};
use super::{Postgres, StartError, log_file};

impl Postgres {
    /// Makes the data directory, or checks that these programs can read it.
    pub(super) async fn make_data(&self) -> Result<(), StartError> {
        let data = self.data();
        if let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) {
            return self.check_version(&data, version.trim());
        }
        // Renamed when complete: what an interrupted initdb leaves is not taken for data.
        let unfinished = self.home.dir.join("pg.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(StartError::file("remove", &unfinished))?;
        }
        let mut arguments = vec![
            "-D".into(),
            unfinished.clone().into(),
            "-U".into(),
            NAME.into(),
        ];
        arguments.extend(["--auth=trust", "--encoding=UTF8", "--locale=C"].map(Into::into));
        if !self.fsync {
            arguments.push("--no-sync".into());
        }
        let written = fs::metadata(&self.log).map_or(0, |file| file.len());
        let initdb = self
            .spawn("initdb", self.home.tools.initdb(), arguments)
            .await?;
        let ended = tokio::time::timeout(START_PATIENCE, initdb.exited()).await;
        let log = log_file::tail(&self.log, written);
        match ended {
            Ok(status) if status.success() => {
                fs::rename(&unfinished, &data).map_err(StartError::file("rename", &unfinished))
            }
            Ok(status) => Err(StartError::Ended {
                program: "initdb".into(),
                status,
                log,
            }),
            Err(_) => Err(self.not_ready("initdb", "it still runs".into(), log)),
        }
    }

    fn check_version(&self, data: &Path, version: &str) -> Result<(), StartError> {
        let program = self.home.tools.postgres();
        let output = std::process::Command::new(&program)
            .arg("--version")
            .output()
            .map_err(StartError::file("run", &program))?;
        // "postgres (PostgreSQL) 18.6", or "… 15.18 (Debian 15.18-0+deb12u1)".
        let text = String::from_utf8_lossy(&output.stdout);
        let ours = text
            .split_whitespace()
            .nth(2)
            .and_then(|number| number.split('.').next());
        if ours == Some(version) {
            return Ok(());
        }
        Err(StartError::OtherVersion {
            path: data.to_owned(),
            data: version.to_owned(),
            bin: self.home.tools.bin.clone(),
            program: ours.unwrap_or("unknown").to_owned(),
        })
    }
}
