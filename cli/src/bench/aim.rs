//! What the project aims at, and whether a value reaches it.

use std::fmt;

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Aim {
    /// Whether `value` reaches it; what could not be measured does not.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Aim;

    #[test]
    fn a_bound_is_reached_from_its_own_side_and_never_by_nothing() {
        assert!(Aim::AtMost(1.3).is_met_by(1.3) && !Aim::AtMost(1.3).is_met_by(1.31));
        assert!(Aim::AtLeast(0.8).is_met_by(0.8) && !Aim::AtLeast(0.8).is_met_by(0.79));
        assert!(!Aim::AtMost(5.0).is_met_by(f64::NAN) && !Aim::AtLeast(5.0).is_met_by(f64::NAN));
        assert_eq!(Aim::AtLeast(1_500.0).to_string(), "≥ 1500");
    }
}
