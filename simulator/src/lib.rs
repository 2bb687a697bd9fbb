//! Plays the providers in their wire format.
