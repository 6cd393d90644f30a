//! AVX-512, where a comparison of 64 bytes is one instruction, and its result a word.

use std::arch::x86_64::*;

use super::{BLOCK, BRACKET, CURLY, Classes, Lanes, OPENING, STRUCTURAL, WHITE, Work, avx2, sse2::load as part};

/// The proof that AVX-512 is there, for bytes.
#[derive(Clone, Copy)]
struct Avx512(());

pub(super) fn is_here() -> bool {
    avx2::is_here() && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub(super) fn run<W: Work>(work: W) -> W::Output {
    work.run(Avx512(()))
}

impl Lanes for Avx512 {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        // SAFETY: an Avx512 is made only by `run`, whose caller has found the instructions.
        unsafe { classes(block) }
    }

    #[inline(always)]
    fn high(self, block: &[u8; BLOCK]) -> u64 {
        // SAFETY: as above.
        unsafe { high(block) }
    }

    #[inline(always)]
    fn parity(self, bits: u64) -> u64 {
        // SAFETY: as above; `is_here` asked for pclmulqdq, too.
        unsafe { avx2::parity(bits) }
    }

    #[inline(always)]
    fn gather<const N: usize>(self, of: u64, words: [u64; N]) -> [u64; N] {
        // SAFETY: as above; `is_here` asked for bmi2, too.
        words.map(|word| unsafe { _pext_u64(word, of) })
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &[u8; BLOCK]) -> __m512i {
    // SAFETY: it reads the 64 bytes of the reference, from wherever they lie.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn high(block: &[u8; BLOCK]) -> u64 {
    _mm512_movepi8_mask(load(block))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn classes(block: &[u8; BLOCK]) -> Classes {
    let bytes = load(block);
    let all = |byte: u8| _mm512_set1_epi8(byte.cast_signed());
    let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, all(byte));
    // By its low four bits each byte picks the one that it might be.
    let is_of = |which: &[u8; 16], bytes| _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(part(which)), bytes), bytes);
    let control = _mm512_cmplt_epu8_mask(bytes, all(0x20));
    Classes {
        quote: is(b'"'),
        backslash: is(b'\\'),
        // With bit 5 square brackets become curly ones; else only what is below a space becomes one of these.
        structural: is_of(&STRUCTURAL, _mm512_or_si512(bytes, all(0x20))) & !control,
        bracket: _mm512_test_epi8_mask(bytes, all(BRACKET)),
        opening: _mm512_test_epi8_mask(bytes, all(OPENING)),
        curly: _mm512_test_epi8_mask(bytes, all(CURLY)),
        white: is_of(&WHITE, bytes),
        control,
        digit: _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, all(b'0')), all(9)),
        zero: is(b'0'),
        high: _mm512_movepi8_mask(bytes),
    }
}
