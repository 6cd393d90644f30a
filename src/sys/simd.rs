//! Sixty-four bytes of JSON at a time: which of them are quotes, brackets, digits and so on, a bit each.
//!
//! Whoever has a value that is [`Lanes`] holds the proof that this machine has the instructions it stands for: the only way to
//! one is [`dispatch`]. What is done with the bits is safe code elsewhere.

use std::sync::atomic::{AtomicU8, Ordering};

mod avx2;
mod avx512;
mod sse2;

/// How many bytes are classified together: one for each bit of a word.
pub const BLOCK: usize = 64;

/// For each class of bytes, which bytes of a block are in it: the first byte is the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// `"`
    pub quote: u64,
    /// `\`
    pub backslash: u64,
    /// `{`, `}`, `[`, `]`, `:` and `,`
    pub structural: u64,
    /// Of those, the brackets; says nothing of other bytes.
    pub bracket: u64,
    /// Of those, `{` and `[`, and `:`; likewise.
    pub opening: u64,
    /// Of the brackets `{` and `}`; likewise.
    pub curly: u64,
    /// JSON's white space: space, tab, line feed, carriage return.
    pub white: u64,
    /// Below a space, or not ASCII.
    pub unusual: u64,
    /// `0` to `9`
    pub digit: u64,
    /// `0`
    pub zero: u64,
}

/// The instructions of one kind of processor.
pub trait Lanes: Copy {
    /// The classes of the bytes of a block.
    fn classes(self, block: &[u8; BLOCK]) -> Classes;

    /// Bit `i` is the parity of the bits up to and with `i`.
    fn parity(self, bits: u64) -> u64;

    /// Which bytes are not ASCII.
    fn high(self, block: &[u8; BLOCK]) -> u64;

    /// At which bytes a word stands that lies in the block whole.
    fn word<const N: usize>(self, block: &[u8; BLOCK], word: &[u8; N]) -> u64;

    /// A block that begins with `text`, which is shorter, then has `close`, then spaces.
    #[inline(always)]
    fn last(self, text: &[u8], close: u8) -> [u8; BLOCK] {
        let mut block = [b' '; BLOCK];
        if let Some((to, [end, ..])) = block.split_at_mut_checked(text.len()) {
            to.copy_from_slice(text);
            *end = close;
        }
        block
    }

    /// Of each word the bits that `of` names, moved together at the low end.
    fn gather<const N: usize>(self, of: u64, words: [u64; N]) -> [u64; N];
}

/// Work that is compiled once for each kind of processor. Its `run` is to be `#[inline(always)]`, or it is compiled without
/// the instructions.
pub trait Work {
    /// What it results in.
    type Output;

    /// Does it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// A set of instructions that the work is compiled for, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every x86-64.
    Sse2,
    /// Since 2013, with the bit manipulation of that time; not before Zen 3, where `pext` is too slow.
    Avx2,
    /// AVX-512 for bytes.
    Avx512,
}

/// The bits by which the structural bytes differ: `{` 7b, `}` 7d, `[` 5b, `]` 5d, `:` 3a, `,` 2c.
const BRACKET: u8 = 0x40;
const OPENING: u8 = 0x02;
const CURLY: u8 = 0x20;

/// The structural bytes and the white ones, each at the place that its low four bits number.
const STRUCTURAL: [u8; 16] = *b"\0\0\0\0\0\0\0\0\0\0:{,}\0\0";
const WHITE: [u8; 16] = *b" \0\0\0\0\0\0\0\0\t\n\0\0\r\0\0";

impl Level {
    const ALL: [Level; 3] = [Level::Sse2, Level::Avx2, Level::Avx512];

    /// The best of this machine; detected once.
    fn best() -> Level {
        static BEST: AtomicU8 = AtomicU8::new(u8::MAX);
        match BEST.load(Ordering::Relaxed) {
            0 => Level::Sse2,
            1 => Level::Avx2,
            2 => Level::Avx512,
            _ => {
                let best = Level::ALL.into_iter().rfind(|level| level.is_here()).unwrap_or(Level::Sse2);
                BEST.store(best as u8, Ordering::Relaxed);
                best
            }
        }
    }

    fn is_here(self) -> bool {
        match self {
            Level::Sse2 => true,
            Level::Avx2 => avx2::is_here(),
            Level::Avx512 => avx512::is_here(),
        }
    }
}

/// Does the work with the best that this machine has.
#[inline]
pub fn dispatch<W: Work>(work: W) -> W::Output {
    run(Level::best(), work)
}

/// Does the work at each level that this machine has: so tests compare them.
pub fn each_level<W: Work + Clone>(work: &W) -> Vec<(Level, W::Output)> {
    Level::ALL.into_iter().filter(|level| *level <= Level::best()).map(|level| (level, run(level, work.clone()))).collect()
}

/// Whether bytes are ASCII; it may say no to what is shorter than a block.
pub fn is_ascii(text: &[u8]) -> bool {
    dispatch(Ascii(text))
}

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

#[inline]
fn run<W: Work>(level: Level, work: W) -> W::Output {
    match level {
        // SAFETY: `best` and `each_level` name a level only where `is_here` found its instructions, or a better one's, which
        // are more.
        Level::Avx512 => unsafe { avx512::run(work) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2::run(work) },
        Level::Sse2 => sse2::run(work),
    }
}

#[cfg(test)]
mod tests;
