//! Choosing ports on 127.0.0.1.
//!
//! A port is free when it is chosen and may be taken when the server comes to it: the server then ends, and its caller tries
//! another. Any port means one below those that the kernel hands out by itself, to whoever connects or listens on port 0: so
//! it is hardly ever taken in between, and a server that was killed finds its port again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use super::StartError;

/// How many ports [`Port::From`] tries.
const RANGE: u16 = 100;
/// Where [`Port::Any`] looks. Source: `net.ipv4.ip_local_port_range` begins at 32768 unless somebody changed it.
const ANY: RangeInclusive<u16> = 10_000..=32_767;
/// How often [`Port::Any`] looks.
const LOOKS: usize = 1_000;

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
            Self::Any => {
                (0..LOOKS)
                    .find_map(|_| free(fastrand::u16(ANY)))
                    .ok_or(StartError::NoFreePort {
                        from: *ANY.start(),
                        to: *ANY.end(),
                    })
            }
            Self::From(from) => {
                let to = from.saturating_add(RANGE - 1);
                (from..=to)
                    .find_map(free)
                    .ok_or(StartError::NoFreePort { from, to })
            }
        }
    }

    /// So many of [`Port::Any`], none of them twice.
    ///
    /// # Errors
    /// [`StartError::NoFreePort`].
    pub(super) fn several(count: usize) -> Result<Vec<u16>, StartError> {
        let mut ports = BTreeSet::new();
        while ports.len() < count {
            ports.insert(Self::Any.pick()?);
        }
        Ok(ports.into_iter().collect())
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

    #[test]
    fn several_ports_are_all_different_and_not_those_the_kernel_hands_out() {
        let ports = Port::several(500).unwrap();
        assert_eq!(ports.len(), 500);
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ports.iter().all(|port| ANY.contains(port)), "{ports:?}");
    }
}
