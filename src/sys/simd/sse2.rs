//! What every x86-64 has.

use std::arch::x86_64::*;

use super::{BLOCK, BRACKET, CURLY, Classes, Lanes, OPENING, Work};

/// The base of x86-64.
#[derive(Clone, Copy)]
struct Sse2;

pub(super) fn run<W: Work>(work: W) -> W::Output {
    work.run(Sse2)
}

impl Lanes for Sse2 {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        let mut found = Classes::default();
        for (part, bytes) in block.as_chunks().0.iter().enumerate() {
            // SAFETY: SSE2 is part of x86-64.
            unsafe { add(&mut found, bytes, part * 16) };
        }
        found
    }

    #[inline(always)]
    fn high(self, block: &[u8; BLOCK]) -> u64 {
        let parts = block.as_chunks().0.iter().enumerate();
        // SAFETY: SSE2 is part of x86-64.
        parts.fold(0, |bits, (part, bytes)| bits | unsafe { high(bytes) } << (part * 16))
    }

    /// By the bits of each of its bytes: moving bytes by less than a register takes as long.
    #[inline(always)]
    fn word<const N: usize>(self, block: &[u8; BLOCK], word: &[u8; N]) -> u64 {
        word.iter().enumerate().fold(u64::MAX, |at, (place, byte)| {
            let parts = block.as_chunks().0.iter().enumerate();
            // SAFETY: SSE2 is part of x86-64.
            at & parts.fold(0, |bits, (part, bytes)| bits | unsafe { equal(bytes, *byte) } << (part * 16)) >> place
        })
    }

    #[inline(always)]
    fn parity(self, bits: u64) -> u64 {
        [1, 2, 4, 8, 16, 32].into_iter().fold(bits, |bits, by| bits ^ bits << by)
    }

    /// Without `pext`: each bit moves down by the number of gaps below it, in six steps of 1, 2, 4 … 32; a step's moves are the
    /// same for all words.
    #[inline(always)]
    fn gather<const N: usize>(self, of: u64, words: [u64; N]) -> [u64; N] {
        let mut words = words.map(|word| word & of);
        let (mut of, mut gaps) = (of, !of << 1);
        for step in 0..6 {
            // Which bits have an odd number of gaps below them, in units of this step.
            let odd = self.parity(gaps);
            let moving = odd & of;
            of = (of ^ moving) | (moving >> (1 << step));
            words = words.map(|word| {
                let moved = word & moving;
                (word ^ moved) | (moved >> (1 << step))
            });
            gaps &= !odd;
        }
        words
    }
}

#[inline]
#[target_feature(enable = "sse2")]
pub(super) fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: it reads the 16 bytes of the reference, from wherever they lie.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn high(bytes: &[u8; 16]) -> u64 {
    u64::from(_mm_movemask_epi8(load(bytes)).cast_unsigned())
}

#[inline]
#[target_feature(enable = "sse2")]
fn equal(bytes: &[u8; 16], byte: u8) -> u64 {
    u64::from(_mm_movemask_epi8(_mm_cmpeq_epi8(load(bytes), _mm_set1_epi8(byte.cast_signed()))).cast_unsigned())
}

#[inline]
#[target_feature(enable = "sse2")]
fn add(found: &mut Classes, bytes: &[u8; 16], at: usize) {
    let bytes = load(bytes);
    let all = |byte: u8| _mm_set1_epi8(byte.cast_signed());
    let is = |byte: u8| _mm_cmpeq_epi8(bytes, all(byte));
    let at_most = |bytes, most: u8| _mm_cmpeq_epi8(_mm_min_epu8(bytes, all(most)), bytes);
    let bits = |mask: __m128i| u64::from(_mm_movemask_epi8(mask).cast_unsigned()) << at;
    // With bit 5 the square brackets become curly ones, and no other byte does.
    let curled = _mm_or_si128(bytes, all(0x20));
    let brackets = _mm_or_si128(_mm_cmpeq_epi8(curled, all(b'{')), _mm_cmpeq_epi8(curled, all(b'}')));
    let white = _mm_or_si128(_mm_or_si128(is(b' '), is(b'\t')), _mm_or_si128(is(b'\n'), is(b'\r')));
    found.quote |= bits(is(b'"'));
    found.backslash |= bits(is(b'\\'));
    found.structural |= bits(_mm_or_si128(brackets, _mm_or_si128(is(b':'), is(b','))));
    // The bits that tell these apart, moved to where movemask looks.
    found.bracket |= bits(_mm_slli_epi16::<{ BRACKET.leading_zeros() as i32 }>(bytes));
    found.opening |= bits(_mm_slli_epi16::<{ OPENING.leading_zeros() as i32 }>(bytes));
    found.curly |= bits(_mm_slli_epi16::<{ CURLY.leading_zeros() as i32 }>(bytes));
    found.white |= bits(white);
    // With the sign: what is not ASCII is below zero.
    found.unusual |= bits(_mm_cmplt_epi8(bytes, all(0x20)));
    found.digit |= bits(at_most(_mm_sub_epi8(bytes, all(b'0')), 9));
    found.zero |= bits(is(b'0'));
}
