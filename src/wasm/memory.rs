//! Linear memory as the host sees it: every pointer of a guest is checked, and none is trusted.

use wasmtime::{Caller, Extern, Memory};

use super::state::State;
use crate::error::{Error, Kind, Result};

/// The memory of the guest that calls, also while its start section runs.
pub(super) fn of(caller: &mut Caller<'_, State>) -> Result<Memory> {
    if let Some(memory) = caller.data().guest.memory {
        return Ok(memory);
    }
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(Error::new(Kind::InvalidArgument, "The plugin has no memory yet.")),
    }
}

/// The bytes at `ptr`, if all of them lie inside.
pub(super) fn slice(memory: &[u8], ptr: i32, len: i32) -> Result<&[u8]> {
    let (start, len) = (offset(ptr), offset(len));
    start.checked_add(len).and_then(|end| memory.get(start..end)).ok_or_else(|| outside(start, len))
}

/// Writes `bytes` at `ptr`, whole or not at all.
pub(super) fn write(memory: &mut [u8], ptr: i32, bytes: &[u8]) -> Result<()> {
    let start = offset(ptr);
    let place = start.checked_add(bytes.len()).and_then(|end| memory.get_mut(start..end));
    place.ok_or_else(|| outside(start, bytes.len()))?.copy_from_slice(bytes);
    Ok(())
}

/// Text at `ptr`.
pub(super) fn text(memory: &[u8], ptr: i32, len: i32) -> Result<&str> {
    std::str::from_utf8(slice(memory, ptr, len)?)
        .map_err(|e| Error::new(Kind::InvalidArgument, format!("The plugin's text is not UTF-8: {e}.")))
}

/// A wasm32 pointer or length: its bits are unsigned.
pub(super) fn offset(bits: i32) -> usize {
    bits.cast_unsigned() as usize
}

#[cold]
fn outside(start: usize, len: usize) -> Error {
    Error::new(Kind::InvalidArgument, format!("The {len} bytes at {start} are not inside the plugin's memory."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_read_or_written() {
        let mut memory = [0u8; 8];
        assert_eq!(slice(&memory, 8, 0).unwrap(), b"");
        for (ptr, len) in [(0, 9), (8, 1), (-1, 1), (1, -1), (-1, -1), (9, 0), (i32::MIN, i32::MIN)] {
            slice(&memory, ptr, len).unwrap_err();
        }
        write(&mut memory, 6, b"ab").unwrap();
        write(&mut memory, 7, b"cd").unwrap_err();
        write(&mut memory, -1, b"c").unwrap_err();
        assert_eq!(&memory, b"\0\0\0\0\0\0ab");
    }
}
