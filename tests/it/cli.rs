//! The operator's commands, as they are typed: the real program, against a running system and against none.

mod journey;
mod nobody;
mod terminal;
