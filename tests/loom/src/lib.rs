//! The pool of the library, its readers and its crews, their own source, on primitives that loom schedules, and what must hold in every interleaving.

pub mod call;
pub mod error;

/// Stands where the library's own module stands, so that the pool finds what it names.
#[path = "../../../src/wasm"]
pub mod wasm {
    #[path = "../../tests/loom/src/model.rs"]
    pub mod model;
    #[allow(dead_code, unused_imports, reason = "the models need not all of it")]
    pub(crate) mod pool;
    #[allow(dead_code, reason = "as above")]
    pub(crate) mod refill;
    pub(crate) mod rest;
    #[path = "../../tests/loom/src/sync.rs"]
    mod sync;
    #[path = "../../tests/loom/src/upkeep.rs"]
    pub mod upkeep;
}

/// As above, for the readers and the desk.
#[path = "../../../src/sys"]
pub mod sys {
    #[allow(dead_code, reason = "the models need not all of it")]
    pub(crate) mod desk;
    #[path = "../../tests/loom/src/readers.rs"]
    pub mod model;
    #[path = "../../tests/loom/src/desk.rs"]
    pub mod questions;
    #[allow(dead_code, reason = "the models need not all of it")]
    pub(crate) mod readers;
    #[path = "../../tests/loom/src/ordered.rs"]
    mod sync;
}

/// As above, for the crews.
#[path = "../../../src/grpc"]
pub mod grpc {
    #[allow(dead_code, reason = "the models need not all of it")]
    pub(crate) mod crew;
    #[path = "../../tests/loom/src/crew.rs"]
    pub mod model;
    #[path = "../../tests/loom/src/crew_sync.rs"]
    mod sync;
    pub(crate) mod task;
    #[path = "../../tests/loom/src/wire.rs"]
    pub mod wire;
}
