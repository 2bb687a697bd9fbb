//! POST in, events out.
