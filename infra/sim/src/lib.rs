//! Deterministic simulation of Tidegate, as [FoundationDB](https://apple.github.io/foundationdb/testing.html) and
//! [TigerBeetle](https://docs.tigerbeetle.com/concepts/safety/) test theirs: the shipped handlers run unchanged in a
//! small AWS that misbehaves as one seed decides. The same seed is the same run.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests only, which fail by panicking"
)]
#![expect(missing_docs, reason = "what AWS has a name for is named like it")]

pub mod campaign;
pub mod case;
pub mod crashes;
pub mod events;
mod faults;
pub mod load;
pub mod mutants;
pub mod permissions;
pub mod plan;
pub mod selection;
pub mod world;
