//! The wasm engines of this process, one for each kind of settings. An engine is made when it is first needed and lives as long
//! as the process.

use std::num::NonZeroUsize;

use once_cell::sync::OnceCell;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Module, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures,
};

use super::glue::{self, Frees};
use super::instance::GLUED_MAX;
use super::ticker::Ticker;
use crate::error::{Error, Kind, Result};

/// The stack of a guest, in bytes; see [`super::stack`] for what must be left of the thread's own.
pub(super) const GUEST_STACK: usize = 512 << 10;

/// Frames that a backtrace keeps.
pub(super) const FRAMES: usize = 32;

/// Instances of all plugins of one engine at a time. Each reserves 4 GiB of address space and no memory.
const INSTANCES: u32 = 1000;
/// Linear memories and tables that one module may have.
pub(super) const MEMORIES: u32 = 4;
pub(super) const TABLES: u32 = 8;
/// Elements of all tables of an instance together.
pub(super) const TABLE_ELEMENTS: usize = 256 << 10;

/// What an instance may keep resident between uses: with PAGEMAP_SCAN only the pages it wrote are reset, without it all are.
const KEEP_RESIDENT: usize = 8 << 20;
const KEEP_RESIDENT_WITHOUT_SCAN: usize = 64 << 10;

/// The settings that make engines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// Traps come as signals; otherwise as explicit checks, and no handler is installed.
    pub(super) signals: bool,
    /// Guests are bounded by fuel beside the time, which costs them speed.
    pub(super) fuel: bool,
}

/// An engine and its ticker.
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    glue: [OnceCell<Module>; Frees::COUNT],
}

/// The machine of these features; made when first asked for.
pub(super) fn machine(features: Features) -> Result<&'static Machine> {
    static PLAIN: OnceCell<Machine> = OnceCell::new();
    static FUELLED: OnceCell<Machine> = OnceCell::new();
    static CHECKED: OnceCell<Machine> = OnceCell::new();
    static CHECKED_FUELLED: OnceCell<Machine> = OnceCell::new();
    let place = match (features.signals, features.fuel) {
        (true, false) => &PLAIN,
        (true, true) => &FUELLED,
        (false, false) => &CHECKED,
        (false, true) => &CHECKED_FUELLED,
    };
    place.get_or_try_init(|| Ok(Machine { engine: engine(features)?, ticker: Ticker::new(), glue: Default::default() }))
}

/// Pooled, or on demand where the address space is bounded (`RLIMIT_AS`, Valgrind) and the pool's reservation fails.
fn engine(features: Features) -> Result<Engine> {
    let mut pooled = config(features);
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling()));
    if let Ok(engine) = Engine::new(&pooled) {
        return Ok(engine);
    }
    let mut on_demand = config(features);
    on_demand.memory_reservation(0).memory_reservation_for_growth(1 << 20).memory_guard_size(64 << 10);
    Engine::new(&on_demand).map_err(|e| {
        Error::new(
            Kind::LoadFailed,
            format!("The wasm engine does not work here: {e:#}. Check the limits on address space and the processor."),
        )
    })
}

fn config(features: Features) -> Config {
    let off = WasmFeatures::THREADS
        | WasmFeatures::SHARED_EVERYTHING_THREADS
        | WasmFeatures::MEMORY64
        | WasmFeatures::GC
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::STACK_SWITCHING
        | WasmFeatures::CUSTOM_PAGE_SIZES;
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(features.fuel)
        .signals_based_traps(features.signals)
        .max_wasm_stack(GUEST_STACK)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .memory_init_cow(true)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
        // Named, so that no environment variable turns on the reading of a hostile module's debug information.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_features(off, false);
    if !features.signals {
        // The checks of the generated code then stand alone, without the page that a speculative access would fault on.
        config.memory_guard_size(0);
    }
    config
}

fn pooling() -> PoolingAllocationConfig {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let (scanned, keep) = if scan { (Enabled::Yes, KEEP_RESIDENT) } else { (Enabled::No, KEEP_RESIDENT_WITHOUT_SCAN) };
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_core_instances(INSTANCES * (1 + GLUED_MAX as u32))
        .total_memories(INSTANCES)
        .total_tables(INSTANCES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        // Fibers have none: nothing runs on one, and a thousand stacks are 2 GiB of address space, split by guard pages.
        .total_stacks(1)
        .max_core_instance_size(4 << 20)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS)
        .pagemap_scan(scanned)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(KEEP_RESIDENT_WITHOUT_SCAN);
    pooling
}

impl Machine {
    /// The glue for guests that free their buffers so; compiled when first asked for.
    pub(super) fn glue(&self, frees: Frees) -> Result<&Module> {
        let Some(place) = self.glue.get(frees as usize) else { return Err(Error::new(Kind::Internal, "There is no such glue.")) };
        place
            .get_or_try_init(|| glue::compile(&self.engine, frees))
            .map_err(|e| Error::new(Kind::Internal, format!("The glue of calls does not compile: {e:#}.")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_engine_can_be_made_and_is_made_once() {
        for signals in [true, false] {
            for fuel in [true, false] {
                let features = Features { signals, fuel };
                assert!(std::ptr::eq(machine(features).unwrap(), machine(features).unwrap()));
            }
        }
    }

    #[test]
    fn memory_is_kept_resident_only_where_the_pages_that_were_written_are_known() {
        let pooling = pooling();
        let scanned = matches!(pooling.get_pagemap_scan(), Enabled::Yes);
        assert_eq!(scanned, PoolingAllocationConfig::is_pagemap_scan_available());
    }
}
