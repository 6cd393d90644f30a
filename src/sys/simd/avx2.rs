//! AVX2, with the bit manipulation (BMI) and the carry-less product of the processors that have it.

use std::arch::x86_64::*;

use super::{BLOCK, BRACKET, CURLY, Classes, Lanes, OPENING, STRUCTURAL, WHITE, Work, sse2::load as part};

/// The proof that AVX2 is there.
#[derive(Clone, Copy)]
struct Avx2(());

pub(super) fn is_here() -> bool {
    has_fast_bits() && is_x86_feature_detected!("avx2")
}

/// Whether the bit manipulation that all but the base use is there, and quick.
pub(super) fn has_fast_bits() -> bool {
    is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("pclmulqdq")
        && !has_slow_pext()
}

/// AMD's processors before Zen 3 (family 19h) run `pext` in microcode, hundreds of cycles each.
fn has_slow_pext() -> bool {
    let vendor = __cpuid(0);
    let is_amd = vendor.ebx.to_le_bytes() == *b"Auth" && vendor.edx.to_le_bytes() == *b"enti" && vendor.ecx.to_le_bytes() == *b"cAMD";
    let version = __cpuid(1).eax;
    let family = ((version >> 8) & 0xf) + ((version >> 20) & 0xff);
    is_amd && family < 0x19
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub(super) fn run<W: Work>(work: W) -> W::Output {
    work.run(Avx2(()))
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        // SAFETY: an Avx2 is made only by `run`, whose caller has found the instructions.
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
    fn parity(self, bits: u64) -> u64 {
        // SAFETY: as above; `is_here` asked for pclmulqdq, too.
        unsafe { parity(bits) }
    }

    #[inline(always)]
    fn gather<const N: usize>(self, of: u64, words: [u64; N]) -> [u64; N] {
        // SAFETY: as above; `is_here` asked for bmi2, too.
        words.map(|word| unsafe { _pext_u64(word, of) })
    }
}

/// The carry-less product with all ones adds, without carry, the word shifted by every distance: the parities.
#[inline]
#[target_feature(enable = "pclmulqdq")]
pub(super) fn parity(bits: u64) -> u64 {
    let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2")]
fn classes(block: &[u8; BLOCK]) -> Classes {
    let mut found = Classes::default();
    for (part, bytes) in block.as_chunks().0.iter().enumerate() {
        add(&mut found, bytes, part * 32);
    }
    found
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: it reads the 32 bytes of the reference, from wherever they lie.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Both halves of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(block: &[u8; BLOCK]) -> [__m256i; 2] {
    let mut halves = block.as_chunks().0.iter().map(|half| load(half));
    std::array::from_fn(|_| halves.next().unwrap_or_else(|| _mm256_setzero_si256()))
}

#[inline]
#[target_feature(enable = "avx2")]
fn high(block: &[u8; BLOCK]) -> u64 {
    let parts = block.as_chunks().0.iter().enumerate();
    parts.fold(0, |bits, (part, bytes)| bits | u64::from(_mm256_movemask_epi8(load(bytes)).cast_unsigned()) << (part * 32))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(found: &mut Classes, bytes: &[u8; 32], at: usize) {
    let bytes = load(bytes);
    let all = |byte: u8| _mm256_set1_epi8(byte.cast_signed());
    let is = |byte: u8| _mm256_cmpeq_epi8(bytes, all(byte));
    let at_most = |bytes, most: u8| _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, all(most)), bytes);
    let bits = |mask: __m256i| u64::from(_mm256_movemask_epi8(mask).cast_unsigned()) << at;
    // By its low four bits each byte picks the one that it might be.
    let is_of = |which: &[u8; 16], bytes| _mm256_cmpeq_epi8(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(part(which)), bytes), bytes);
    found.quote |= bits(is(b'"'));
    found.backslash |= bits(is(b'\\'));
    // With bit 5 square brackets become curly ones; else only what is below a space becomes one of these.
    // With the sign: what is not ASCII is below zero.
    let unusual = _mm256_cmpgt_epi8(all(0x20), bytes);
    found.structural |= bits(_mm256_andnot_si256(unusual, is_of(&STRUCTURAL, _mm256_or_si256(bytes, all(0x20)))));
    // The bits that tell these apart, moved to where movemask looks.
    found.bracket |= bits(_mm256_slli_epi16::<{ BRACKET.leading_zeros() as i32 }>(bytes));
    found.opening |= bits(_mm256_slli_epi16::<{ OPENING.leading_zeros() as i32 }>(bytes));
    found.curly |= bits(_mm256_slli_epi16::<{ CURLY.leading_zeros() as i32 }>(bytes));
    found.white |= bits(is_of(&WHITE, bytes));
    found.unusual |= bits(unusual);
    found.digit |= bits(at_most(_mm256_sub_epi8(bytes, all(b'0')), 9));
    found.zero |= bits(is(b'0'));
}

#[inline]
#[target_feature(enable = "avx2")]
fn stands<const N: usize>(block: &[u8; BLOCK], word: &[u8; N]) -> u64 {
    let none = _mm256_setzero_si256();
    let at = |bytes: __m256i, after: __m256i| {
        // The 16 bytes behind each 16.
        let next = _mm256_permute2x128_si256::<0x21>(bytes, after);
        let is = |all, bytes, place: usize| match word.get(place) {
            Some(byte) => _mm256_and_si256(all, _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte.cast_signed()))),
            None => all,
        };
        let all = is(_mm256_set1_epi8(-1), bytes, 0);
        let all = is(all, _mm256_alignr_epi8::<1>(next, bytes), 1);
        let all = is(all, _mm256_alignr_epi8::<2>(next, bytes), 2);
        let all = is(all, _mm256_alignr_epi8::<3>(next, bytes), 3);
        let all = is(all, _mm256_alignr_epi8::<4>(next, bytes), 4);
        u64::from(_mm256_movemask_epi8(all).cast_unsigned())
    };
    let [low, high] = halves(block);
    at(low, high) | at(high, none) << 32
}
