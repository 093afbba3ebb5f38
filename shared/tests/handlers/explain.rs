//! What would be done, without doing it.
