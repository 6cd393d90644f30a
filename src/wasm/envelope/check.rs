//! The quick checks: whether bytes are JSON, or UTF-8 at least, by vector instructions.

use crate::sys::simd;

mod atom;
mod grammar;
mod nesting;
mod scan;

/// Whether it is one JSON value in UTF-8, without white space around it. It may say no to one that is rare.
pub(super) fn is_json(value: &[u8]) -> bool {
    simd::dispatch(scan::Inside::of(value))
}

/// The same by each kind of instructions that this machine has: tests and fuzzing compare them.
pub fn is_json_by_each(value: &[u8]) -> Vec<bool> {
    simd::each_level(&scan::Inside::of(value)).into_iter().map(|(_, verdict)| verdict).collect()
}

/// Whether it is UTF-8.
///
/// ASCII, as most of it is, is seen quickest; the rest is simdutf8's to judge.
pub(super) fn is_utf8(text: &[u8]) -> bool {
    simd::is_ascii(text) || simdutf8::basic::from_utf8(text).is_ok()
}

#[cfg(test)]
mod tests;
