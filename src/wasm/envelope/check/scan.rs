//! Whether bytes are JSON in UTF-8: the grammar of RFC 8259, checked 64 bytes at a time without a branch for each.
//!
//! A block becomes words with a bit for each byte: where strings are, where each sort of token begins. The tokens are then
//! moved together, and their order is judged by shifts (see [`super::grammar`]). Only escapes, and numbers that are not plain digits,
//! are looked at one by one.
//!
//! The answer is yes only for JSON. It is no also for some JSON that is rare, such as what is nested 60 deep: whoever asks
//! has a slower way to find out.

use super::atom;
use super::grammar::{Grammar, Rows, TOKENS_MAX, Tokens};
use crate::sys::simd::{BLOCK, Lanes, Work};

/// The inside of an object or an array, up to the bracket that closes it.
#[derive(Clone, Copy)]
pub(super) struct Inside<'a> {
    text: &'a [u8],
    close: u8,
    /// How many tokens there may be, the closing bracket with them; none: any number.
    tokens_max: Option<u32>,
}

impl<'a> Inside<'a> {
    /// What `value` is inside of: its own brackets, or else an array of this value alone.
    pub(super) fn of(value: &'a [u8]) -> Inside<'a> {
        match value {
            [b'{', text @ .., close @ b'}'] | [b'[', text @ .., close @ b']'] if !text.iter().all(u8::is_ascii_whitespace) => {
                Inside { text, close: *close, tokens_max: None }
            }
            // An empty container is two tokens and three with the closing bracket; two values and a comma would be four.
            text => Inside { text, close: b']', tokens_max: Some(3) },
        }
    }
}

impl Work for Inside<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let mut rows = Rows::default();
        let mut scan = Scan::new(lanes, self, &mut rows);
        let (blocks, rest) = self.text.as_chunks();
        let last = lanes.last(rest, self.close);
        let mut at = 0;
        for block in blocks {
            scan.block(block, at);
            at += BLOCK;
        }
        scan.block(&last, at);
        scan.finish(self.tokens_max)
    }
}

struct Scan<'a, L> {
    lanes: L,
    text: &'a [u8],
    grammar: Grammar<'a>,
    /// All ones if the block before ended in a string.
    in_string: u64,
    /// One if it ended in a `\` that escapes what comes now; if it ended in a number or a literal.
    escaped: u64,
    in_atom: u64,
    /// Whether that was an integer; one if it was a zero that began one.
    in_integer: u64,
    zero: u64,
    high: u64,
    wrong: u64,
}

impl<'a, L: Lanes> Scan<'a, L> {
    #[inline(always)]
    fn new(lanes: L, inside: Inside<'a>, rows: &'a mut Rows) -> Self {
        let grammar = Grammar::inside(inside.close == b'}', rows);
        Scan { lanes, text: inside.text, grammar, in_string: 0, escaped: 0, in_atom: 0, in_integer: 0, zero: 0, high: 0, wrong: 0 }
    }

    /// The block that starts at `at`.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], at: usize) {
        let found = self.lanes.classes(block);
        let quote = found.quote & !self.escapes(found.backslash, at);
        // From each quote that begins a string up to the one that ends it, without that one.
        let inside = self.lanes.parity(quote) ^ self.in_string;
        self.in_string = (inside.cast_signed() >> 63).cast_unsigned();
        let unusual = found.unusual & inside;
        if unusual != 0 {
            let high = self.lanes.high(block);
            self.high |= high;
            self.wrong |= unusual & !high;
        }

        let outside = !(inside | quote);
        let structural = found.structural & outside;
        let atoms = outside & !(structural | found.white);
        let starts = atoms & !(atoms << 1 | self.in_atom);
        self.in_atom = atoms >> 63;
        self.atoms(block, atoms, starts, [found.digit, found.zero], at);

        let string = quote & inside;
        let value = string | starts;
        let bracket = found.bracket & structural;
        let begins = found.opening & structural | string;
        let kind = found.curly & bracket | value;
        let tokens = structural | value;
        let words = [bracket, begins, kind];
        if tokens.count_ones() > TOKENS_MAX {
            let low = u64::from(u32::MAX);
            self.add(tokens & low, words);
            self.add(tokens & !low, words);
        } else {
            self.add(tokens, words);
        }
    }

    /// These bytes are tokens.
    #[inline(always)]
    fn add(&mut self, tokens: u64, words: [u64; 3]) {
        let [bracket, begins, kind] = self.lanes.gather(tokens, words);
        self.grammar.add(self.lanes, tokens.count_ones(), Tokens { bracket, begins, kind });
    }

    /// Which bytes are escaped, given where `\` stands; checks what the escapes are.
    #[inline(always)]
    fn escapes(&mut self, backslash: u64, at: usize) -> u64 {
        if backslash | self.escaped == 0 {
            return 0;
        }
        let (escaped, next, right) = escapes(self.text, backslash, self.escaped, at);
        self.escaped = next;
        self.wrong |= u64::from(!right);
        escaped
    }

    /// Checks the numbers and literals, given where they are and where they start.
    #[inline(always)]
    fn atoms(&mut self, block: &[u8; BLOCK], atoms: u64, starts: u64, [digit, zero]: [u64; 2], at: usize) {
        let digits = atoms & digit;
        let plain = starts & digit;
        let zeros = plain & zero;
        self.wrong |= (zeros << 1 | self.zero) & digits;
        self.zero = zeros >> 63;
        // Adding its first digit to a run of digits carries to what follows the run.
        let (carried, in_integer) = digits.carrying_add(plain, self.in_integer != 0);
        self.in_integer = u64::from(in_integer);
        let mut go_on = carried & !digits & atoms;
        while go_on != 0 {
            self.wrong |= u64::from(!atom::is_fraction(self.text, at + go_on.trailing_zeros() as usize));
            go_on &= go_on - 1;
        }
        let mut others = starts & !digit;
        if others != 0 {
            others &= !self.literals(block, atoms);
        }
        while others != 0 {
            self.wrong |= u64::from(!atom::is_atom(self.text, at + others.trailing_zeros() as usize));
            others &= others - 1;
        }
    }

    /// Where a literal stands and ends before the block does. (What may not follow it for other reasons is left to the grammar.)
    #[inline(always)]
    fn literals(&self, block: &[u8; BLOCK], atoms: u64) -> u64 {
        let followed = |length: u32| atoms >> length | u64::MAX << (u64::BITS - length);
        let four = self.lanes.word(block, b"true") | self.lanes.word(block, b"null");
        four & !followed(4) | self.lanes.word(block, b"false") & !followed(5)
    }

    #[inline(always)]
    fn finish(self, tokens_max: Option<u32>) -> bool {
        let utf8 = self.high == 0 || simdutf8::basic::from_utf8(self.text).is_ok();
        utf8 && self.wrong | self.in_string == 0 && self.grammar.finish(self.lanes, tokens_max)
    }
}

/// Which bytes of the block at `at` are escaped, given where `\` stands and whether the first is escaped; whether the first of
/// the next is; whether all of them are escapes that there are.
///
/// Outside of a string a `\` is part of an atom, and refused as that. So is whatever comes of it here.
#[inline(never)]
fn escapes(text: &[u8], backslash: u64, first: u64, at: usize) -> (u64, u64, bool) {
    let (mut escaped, mut next, mut right) = (first, 0, true);
    let mut left = backslash & !escaped;
    while left != 0 {
        let place = left.trailing_zeros();
        right &= atom::is_escape(text, at + place as usize);
        next = u64::from(place == 63);
        let after = (1 << place) << 1;
        escaped |= after;
        left &= (left - 1) & !after;
    }
    (escaped, next, right)
}
