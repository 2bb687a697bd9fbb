//! Choosing ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use super::StartError;

/// How many ports [`Port::From`] tries.
const RANGE: u16 = 100;

/// Which port a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// One that is free.
    #[default]
    Any,
    /// This one, or the next free of the hundred from it on.
    From(u16),
    /// This one.
    Exactly(u16),
}

impl Port {
    /// A port that was free a moment ago. Somebody may take it before the server does, so callers try again.
    ///
    /// # Errors
    /// [`StartError::NoFreePort`].
    pub fn pick(self) -> Result<u16, StartError> {
        match self {
            Self::Exactly(port) => Ok(port),
            Self::Any => free(0).ok_or(StartError::NoFreePort {
                from: 1,
                to: u16::MAX,
            }),
            Self::From(from) => {
                let to = from.saturating_add(RANGE - 1);
                (from..=to)
                    .find_map(free)
                    .ok_or(StartError::NoFreePort { from, to })
            }
        }
    }
}

fn free(port: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    listener.local_addr().ok().map(|address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let picked = Port::From(port).pick().unwrap();
        assert!(picked > port, "picked {picked} although {port} is taken");
    }
}
