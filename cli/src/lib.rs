//! The one binary of Chat4All.
