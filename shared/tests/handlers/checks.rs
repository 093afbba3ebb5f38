//! The checks before a deployment, and bad input: nothing is changed, and the owner is told what to do.
