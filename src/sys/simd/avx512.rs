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
    fn word<const N: usize>(self, block: &[u8; BLOCK], word: &[u8; N]) -> u64 {
        // SAFETY: as above.
        unsafe { stands(block, word) }
    }

    #[inline(always)]
    fn last(self, text: &[u8], close: u8) -> [u8; BLOCK] {
        // SAFETY: as above.
        unsafe { last(text, close) }
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
    // With the sign: what is not ASCII is below zero.
    let unusual = _mm512_cmplt_epi8_mask(bytes, all(0x20));
    Classes {
        quote: is(b'"'),
        backslash: is(b'\\'),
        // With bit 5 square brackets become curly ones; else only what is below a space becomes one of these.
        structural: is_of(&STRUCTURAL, _mm512_or_si512(bytes, all(0x20))) & !unusual,
        bracket: _mm512_test_epi8_mask(bytes, all(BRACKET)),
        opening: _mm512_test_epi8_mask(bytes, all(OPENING)),
        curly: _mm512_test_epi8_mask(bytes, all(CURLY)),
        white: is_of(&WHITE, bytes),
        unusual,
        digit: _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, all(b'0')), all(9)),
        zero: is(b'0'),
    }
}

/// `a | (b ^ c)`, as the table of its values.
const OR_DIFFERENCE: i32 = 0xf6;

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn stands<const N: usize>(block: &[u8; BLOCK], word: &[u8; N]) -> u64 {
    let bytes = load(block);
    // The 16 bytes behind each 16.
    let next = _mm512_maskz_shuffle_i64x2::<0b00_11_10_01>(0x3f, bytes, bytes);
    // Zero where all bytes up to `place` are those of the word. (By logic, because comparisons go through one port alone.)
    let differs = |before, bytes, place: usize| match word.get(place) {
        Some(byte) => _mm512_ternarylogic_epi64::<OR_DIFFERENCE>(before, bytes, _mm512_set1_epi8(byte.cast_signed())),
        None => before,
    };
    let before = differs(_mm512_setzero_si512(), bytes, 0);
    let before = differs(before, _mm512_alignr_epi8::<1>(next, bytes), 1);
    let before = differs(before, _mm512_alignr_epi8::<2>(next, bytes), 2);
    let before = differs(before, _mm512_alignr_epi8::<3>(next, bytes), 3);
    let before = differs(before, _mm512_alignr_epi8::<4>(next, bytes), 4);
    _mm512_testn_epi8_mask(before, before)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn last(text: &[u8], close: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let end = 1 << (text.len() % BLOCK);
    let spaces = _mm512_set1_epi8(b' '.cast_signed());
    // SAFETY: of the text only bytes that it has are read: those below `end`.
    let bytes = unsafe { _mm512_mask_loadu_epi8(spaces, end - 1, text.as_ptr().cast()) };
    let bytes = _mm512_mask_set1_epi8(bytes, end, close.cast_signed());
    // SAFETY: it writes the 64 bytes of the block.
    unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), bytes) };
    block
}
