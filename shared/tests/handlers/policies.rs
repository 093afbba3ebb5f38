//! Which image a service takes.
