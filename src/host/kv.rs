//! The default store of `KVGet`, `KVSet` and `KVDelete`, with the policy's quota for each plugin: in memory, or in one file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::host::kv::file::FileKv;
use crate::host::{Caller, audit};

pub mod file;

/// The store of a host, shared by all its plugins; the keys are namespaced already.
#[derive(Debug)]
pub enum Kv {
    /// Lives as long as its host.
    Memory(MemoryKv),
    /// Outlives it.
    File(FileKv),
}

impl Kv {
    /// The store in this file, made where there is none; without a path, one in memory.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        path.map_or_else(|| Ok(Kv::Memory(MemoryKv::default())), |path| FileKv::open(path).map(Kv::File))
    }

    /// The value of a key; none if it is missing.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Kv::Memory(memory) => Ok(memory.get(key)),
            Kv::File(file) => file.get(key),
        }
    }

    /// Stores a value, or refuses it where the plugin's quota (`kv.total`) would be passed and changes nothing.
    pub fn set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        match self {
            Kv::Memory(memory) => memory.set(caller, key, value),
            Kv::File(file) => file.set(caller, key, value),
        }
    }

    /// Removes a key, if it is there.
    pub fn delete(&self, caller: &Caller<'_>, key: &str) -> Result<()> {
        match self {
            Kv::Memory(memory) => memory.delete(caller, key),
            Kv::File(file) => return file.delete(caller, key),
        }
        Ok(())
    }

    /// Lets go of the file.
    pub fn close(&self) {
        if let Kv::File(file) = self {
            file.close();
        }
    }
}

/// A store that lives as long as its host.
#[derive(Debug, Default)]
pub struct MemoryKv(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    values: HashMap<String, Vec<u8>>,
    /// Bytes of keys and values held for each identity.
    used: HashMap<String, u64>,
}

impl MemoryKv {
    /// The value of a key; none if it is missing.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().values.get(key).cloned()
    }

    /// Stores a value, or refuses it where the plugin's quota (`kv.total`) would be passed and changes nothing.
    pub fn set(&self, caller: &Caller<'_>, key: &str, value: &[u8]) -> Result<()> {
        let identity = caller.context.identity();
        let mut state = self.state();
        let old = state.values.get(key).map_or(0, |old| size(key, old));
        let used = state.used.get(identity).copied().unwrap_or(0) - old + size(key, value);
        within(identity, caller.context.grants().kv.total, used)?;
        state.values.insert(key.to_owned(), value.to_owned());
        state.used.insert(identity.to_owned(), used);
        Ok(())
    }

    /// Removes a key, if it is there.
    pub fn delete(&self, caller: &Caller<'_>, key: &str) {
        let mut state = self.state();
        if let Some(old) = state.values.remove(key)
            && let Some(used) = state.used.get_mut(caller.context.identity())
        {
            *used -= size(key, &old);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what would make a plugin's data larger than its quota.
fn within(identity: &str, total: u64, used: u64) -> Result<()> {
    if used <= total {
        return Ok(());
    }
    Err(Error::new(
        Kind::PermissionDenied,
        format!("The plugin's stored data would take {used} bytes; the policy grants {total} (kv.total). Delete keys, or raise it."),
    )
    .with_detail("denied", audit::denied("kv", identity, "kv.total", format!("kv: {{ total: {used} }}"))))
}

/// What an entry counts for: its bytes, and what the store needs to keep it.
fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY
}

/// Bytes that the store needs for an entry beside its key and value.
const ENTRY: u64 = 64;
