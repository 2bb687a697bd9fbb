//! What every role needs and no business crate knows.
