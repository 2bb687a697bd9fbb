//! A rebuild that is stopped, killed or refused leaves the live tables as they are.
