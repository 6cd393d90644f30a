//! Whether bytes are JSON in UTF-8: the grammar of RFC 8259, checked 64 bytes at a time without a branch for each.
//!
//! A block becomes words with a bit for each byte: where strings are, where each sort of token begins. The tokens are then
//! moved together, and their order is judged by shifts (see [`super::grammar`]). Only escapes, and numbers that are not plain digits,
//! are looked at one by one.
//!
//! The answer is yes only for JSON. It is no also for some JSON that is rare, such as what is nested 60 deep: whoever asks
//! has a slower way to find out.

use super::atom;
use super::grammar::{Grammar, TOKENS_MAX, Tokens};
use crate::sys::simd::{BLOCK, Lanes, Work};

/// The inside of an object or an array, up to the bracket that closes it.
#[derive(Clone, Copy)]
pub(super) struct Inside<'a> {
    text: &'a [u8],
    close: u8,
    /// How many tokens there may be, the closing bracket with them.
    tokens_max: usize,
}

impl<'a> Inside<'a> {
    /// What `value` is inside of: its own brackets, or else an array of this value alone.
    pub(super) fn of(value: &'a [u8]) -> Inside<'a> {
        match value {
            [b'{', text @ .., close @ b'}'] | [b'[', text @ .., close @ b']'] if !text.iter().all(u8::is_ascii_whitespace) => {
                Inside { text, close: *close, tokens_max: usize::MAX }
            }
            // An empty container is two tokens and three with the closing bracket; two values and a comma would be four.
            text => Inside { text, close: b']', tokens_max: 3 },
        }
    }
}

impl Work for Inside<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let mut scan = Scan::new(lanes, self);
        let (blocks, rest) = self.text.as_chunks();
        let mut last = [b' '; BLOCK];
        if let Some((to, [close, ..])) = last.split_at_mut_checked(rest.len()) {
            to.copy_from_slice(rest);
            *close = self.close;
        }
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
    grammar: Grammar,
    tokens: usize,
    /// All ones if the block before ended in a string.
    in_string: u64,
    /// One if it ended in a `\` that escapes what comes now; if it ended in a number or a literal.
    escaped: u64,
    in_atom: u64,
    high: u64,
    wrong: u64,
}

impl<'a, L: Lanes> Scan<'a, L> {
    #[inline(always)]
    fn new(lanes: L, inside: Inside<'a>) -> Self {
        let grammar = Grammar::inside(inside.close == b'}');
        Scan { lanes, text: inside.text, grammar, tokens: 0, in_string: 0, escaped: 0, in_atom: 0, high: 0, wrong: 0 }
    }

    /// The block that starts at `at`.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], at: usize) {
        let found = self.lanes.classes(block);
        self.high |= found.high;
        let quote = found.quote & !self.escapes(found.backslash, at);
        // From each quote that begins a string up to the one that ends it, without that one.
        let inside = self.lanes.parity(quote) ^ self.in_string;
        self.in_string = (inside.cast_signed() >> 63).cast_unsigned();
        self.wrong |= found.control & inside;

        let outside = !(inside | quote);
        let structural = found.structural & outside;
        let atoms = outside & !(structural | found.white);
        let starts = atoms & !(atoms << 1 | self.in_atom);
        self.in_atom = atoms >> 63;
        self.atoms(atoms, starts, found.digit, found.zero, at);

        let string = quote & inside;
        let value = string | starts;
        let bracket = found.bracket & structural;
        let begins = found.opening & structural | string;
        let kind = found.curly & bracket | value;
        let mut left = structural | value;
        self.tokens += left.count_ones() as usize;
        while left != 0 {
            let some = if left.count_ones() > TOKENS_MAX { left & u64::from(u32::MAX) } else { left };
            left ^= some;
            let [bracket, begins, kind] = self.lanes.gather(some, [bracket, begins, kind]);
            self.grammar.add(self.lanes, some.count_ones(), Tokens { bracket, begins, kind });
        }
    }

    /// Which bytes are escaped, given where `\` stands; checks what the escapes are.
    ///
    /// Outside of a string a `\` is part of an atom, and refused as that. So is whatever comes of it here.
    #[inline(always)]
    fn escapes(&mut self, backslash: u64, at: usize) -> u64 {
        let mut escaped = self.escaped;
        let mut left = backslash & !escaped;
        self.escaped = 0;
        while left != 0 {
            let place = left.trailing_zeros();
            self.wrong |= u64::from(!atom::is_escape(self.text, at + place as usize));
            self.escaped = u64::from(place == 63);
            let next = (1 << place) << 1;
            escaped |= next;
            left &= (left - 1) & !next;
        }
        escaped
    }

    /// Checks the numbers and literals, given where they are and where they start.
    #[inline(always)]
    fn atoms(&mut self, atoms: u64, starts: u64, digit: u64, zero: u64, at: usize) {
        let digits = atoms & digit;
        let plain = starts & digit;
        self.wrong |= (plain & zero) << 1 & digits;
        // Adding its first digit to a run of digits carries to what follows the run.
        let (carried, to_the_end) = digits.overflowing_add(plain);
        let mut go_on = carried & !digits & atoms;
        while go_on != 0 {
            self.wrong |= u64::from(!atom::is_fraction(self.text, at + go_on.trailing_zeros() as usize));
            go_on &= go_on - 1;
        }
        let mut others = starts & !digit;
        if to_the_end {
            others |= 1 << (63 - plain.leading_zeros());
        }
        while others != 0 {
            let at = at + others.trailing_zeros() as usize;
            self.wrong |= u64::from(!(atom::is_literal(self.text, at) || atom::is_atom(self.text, at)));
            others &= others - 1;
        }
    }

    #[inline(always)]
    fn finish(self, tokens_max: usize) -> bool {
        let utf8 = self.high == 0 || simdutf8::basic::from_utf8(self.text).is_ok();
        utf8 && self.wrong | self.in_string == 0 && self.tokens <= tokens_max && self.grammar.finish(self.lanes)
    }
}
