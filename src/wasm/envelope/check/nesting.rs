//! Whether every bracket that opens has one that closes.

use crate::sys::simd::Lanes;

/// The kinds of the containers that are open, and the brackets not yet looked at.
///
/// A bracket that opens puts the kind of the container *around* it on the stack; one that closes takes that away, and it has
/// to be the kind of the container that goes on behind it. Both are known from the neighbours of a bracket (see
/// `grammar`), so brackets can wait here until there are many of them. Then those that match are taken out, all pairs of
/// neighbours at once, until what is left is some that close, then some that open.
pub(super) struct Nesting {
    /// A bit for each container around the innermost, which is the lowest, and a one above the outermost.
    stack: u64,
    /// Not zero once anything is wrong.
    wrong: u64,
    /// How many brackets wait, which of them open, and the kind that goes with each.
    waiting: u32,
    opens: u64,
    kinds: u64,
}

impl Nesting {
    pub(super) fn new() -> Nesting {
        Nesting { stack: 1, wrong: 0, waiting: 0, opens: 0, kinds: 0 }
    }

    /// `count` more brackets, at most 60, the first in the lowest bit.
    #[inline(always)]
    pub(super) fn add<L: Lanes>(&mut self, lanes: L, count: u32, opens: u64, kinds: u64) {
        if self.waiting + count >= u64::BITS {
            self.match_waiting(lanes);
        }
        self.opens |= opens << self.waiting;
        self.kinds |= kinds << self.waiting;
        self.waiting += count;
    }

    /// Whether all of them match, and nothing is left open.
    #[inline(always)]
    pub(super) fn finish<L: Lanes>(mut self, lanes: L) -> bool {
        self.match_waiting(lanes);
        self.wrong == 0 && self.stack == 1
    }

    /// Leaves none.
    #[inline(always)]
    fn match_waiting<L: Lanes>(&mut self, lanes: L) {
        let (mut opens, mut kinds, mut count) = (self.opens, self.kinds, self.waiting);
        loop {
            let all = (1u64 << count) - 1;
            let pairs = opens & !opens >> 1 & all >> 1;
            if pairs == 0 {
                break;
            }
            self.wrong |= pairs & (kinds ^ kinds >> 1);
            [opens, kinds] = lanes.gather(all & !(pairs | pairs << 1), [opens, kinds]);
            count -= 2 * pairs.count_ones();
        }
        // What closes has to be on the stack, above the one that marks its end; and there is to be room for what opens.
        let closed = opens.trailing_zeros().min(count);
        let opened = count - closed;
        self.wrong |= (self.stack ^ kinds) & ((1 << closed) - 1);
        self.stack >>= closed;
        self.wrong |= u64::from(self.stack == 0 || self.stack.leading_zeros() <= opened);
        // The last that opens is the innermost.
        self.stack = self.stack << opened | (kinds >> closed).reverse_bits() >> 1 >> (u64::BITS - 1 - opened);
        (self.waiting, self.opens, self.kinds) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::simd::{Work, each_level};

    /// Brackets as text, `(` and `)` of one kind, `<` and `>` of the other, so many at a time.
    #[derive(Clone)]
    struct Rows<'a>(&'a str, usize);

    impl Work for Rows<'_> {
        type Output = bool;

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> bool {
            let mut nesting = Nesting::new();
            for row in self.0.as_bytes().chunks(self.1) {
                let bits = |which: &[u8]| row.iter().enumerate().map(|(at, bracket)| u64::from(which.contains(bracket)) << at).sum();
                nesting.add(lanes, row.len() as u32, bits(b"(<"), bits(b"<>"));
            }
            nesting.finish(lanes)
        }
    }

    /// At each level of instructions, which are to agree.
    fn closed_in_rows(text: &str, at_once: usize) -> bool {
        let levels = each_level(&Rows(text, at_once));
        let (_, first) = levels[0];
        assert!(levels.iter().all(|(_, verdict)| *verdict == first), "{text} {levels:?}");
        first
    }

    /// In rows of any length, where it is not too deep.
    fn closed(text: &str) -> bool {
        let verdicts = [1, 7, 60].map(|at_once| closed_in_rows(text, at_once));
        assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{text} {verdicts:?}");
        verdicts[0]
    }

    /// The same, one after the other.
    fn matched(text: &str) -> bool {
        let mut open = Vec::new();
        text.chars().all(|bracket| match bracket {
            ')' => open.pop() == Some('('),
            '>' => open.pop() == Some('<'),
            _ => {
                open.push(bracket);
                true
            }
        }) && open.is_empty()
    }

    #[test]
    fn every_short_row_of_brackets_is_judged_as_by_hand() {
        for length in 0..=9 {
            for row in 0..4usize.pow(length) {
                let text: String = (0..length).map(|at| ['(', ')', '<', '>'][row >> (2 * at) & 3]).collect();
                assert_eq!(closed(&text), matched(&text), "{text}");
            }
        }
    }

    #[test]
    fn a_long_row_may_come_in_pieces() {
        let row = "()<(<>)()><>((<<>>))".repeat(100);
        assert!(closed(&row));
        for wrong in ["(", ")", "<)", "(>"] {
            for at in [0, 59, 60, 61, 64, 1000, row.len()] {
                let (before, behind) = row.split_at(at);
                assert!(!closed(&format!("{before}{wrong}{behind}")), "{wrong} {at}");
            }
        }
    }

    #[test]
    fn what_is_too_deep_is_not_taken_for_matching() {
        for depth in 1..200 {
            let row = |open: &str, end: &str| format!("{}{end}{}", open.repeat(depth), ")".repeat(depth - 1));
            for at_once in [1, 7, 60] {
                assert!(closed_in_rows(&row("(", ")"), at_once) || depth > 60, "{depth} {at_once}");
                for wrong in [row("(", ""), row("(", "))"), row("(", ">"), row("<", ")") + "("] {
                    assert!(!closed_in_rows(&wrong, at_once), "{depth} {at_once}");
                }
            }
        }
    }
}
