//! How many files and sockets a process may have open: ours, and those of the stack, which inherit it.

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to at least `wanted`, for this process and for what it starts from now on.
///
/// # Errors
/// The hard limit is lower: only the system's administrator can raise that.
pub(super) fn allow(wanted: u64) -> anyhow::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} open files are needed and the hard limit is {}: raise it (`ulimit -Hn {wanted}` as root, or LimitNOFILE= \
         and /etc/security/limits.conf), or take --quick",
        maximum.unwrap_or_default()
    );
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_there_is_already_is_allowed_and_what_nobody_may_is_said() {
        super::allow(16).unwrap();
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        if let Some(hard) = hard {
            let error = super::allow(hard + 1).unwrap_err().to_string();
            assert!(
                error.contains(&format!("the hard limit is {hard}")),
                "{error}"
            );
        }
    }
}
