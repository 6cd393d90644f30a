//! The quick checks: whether bytes are JSON, or UTF-8 at least, by vector instructions.

use crate::sys::simd::{self, BLOCK, Lanes, Work};

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
    simd::dispatch(Ascii(text)) || simdutf8::basic::from_utf8(text).is_ok()
}

/// Whether bytes are ASCII; it may say no to what is shorter than a block.
#[derive(Clone, Copy)]
struct Ascii<'a>(&'a [u8]);

impl Work for Ascii<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let (strides, rest) = self.0.as_chunks::<{ 8 * BLOCK }>();
        let is_high = |blocks: &[[u8; BLOCK]]| blocks.iter().fold(0, |high, block| high | lanes.high(block)) != 0;
        for stride in strides {
            if is_high(stride.as_chunks().0) {
                return false;
            }
        }
        // The last block may overlap the others.
        !is_high(rest.as_chunks().0) && self.0.last_chunk().is_some_and(|last| lanes.high(last) == 0)
    }
}

#[cfg(test)]
mod tests;
