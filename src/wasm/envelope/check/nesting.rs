//! Whether every bracket that opens has one that closes.

/// The kinds of the containers that are open, and the brackets not yet looked at.
///
/// A bracket that opens puts the kind of the container *around* it on the stack; one that closes takes that away, and it has
/// to be the kind of the container that goes on behind it. Both are known from the neighbours of a bracket (see
/// `grammar`), so brackets can wait here until there are enough of them to be matched four at a time, without a branch.
pub(super) struct Nesting {
    /// A bit for each container around the innermost, and a one above the outermost.
    stack: u64,
    /// Not zero once anything is wrong.
    wrong: u64,
    /// How many brackets wait, which of them open, and the kind that goes with each.
    waiting: u32,
    opens: u64,
    kinds: u64,
}

/// The bits of the stack that four brackets may fill, and one more: while they are free no bit is lost.
const HEADROOM: u64 = 0x1f << 59;

impl Nesting {
    pub(super) fn new() -> Nesting {
        Nesting { stack: 1, wrong: 0, waiting: 0, opens: 0, kinds: 0 }
    }

    /// `count` more brackets, at most 60, the first in the lowest bit.
    #[inline(always)]
    pub(super) fn add(&mut self, count: u32, opens: u64, kinds: u64) {
        if self.waiting + count >= u64::BITS {
            self.match_waiting();
        }
        self.opens |= opens << self.waiting;
        self.kinds |= kinds << self.waiting;
        self.waiting += count;
    }

    /// Whether all of them match, and nothing is left open.
    pub(super) fn finish(mut self) -> bool {
        // Brackets that open fill the last four up, and are on the stack in the end.
        let fill = self.waiting.wrapping_neg() % 4;
        self.add(fill, (1 << fill) - 1, 0);
        self.match_waiting();
        self.wrong == 0 && self.stack == 1 << fill
    }

    /// Leaves at most three.
    fn match_waiting(&mut self) {
        while self.waiting >= 4 {
            let four = (self.opens & 0xf | (self.kinds & 0xf) << 4) as u8;
            let step = STEPS.get(usize::from(four)).copied().unwrap_or(Step::WRONG);
            // What is closed has to be on the stack …
            self.wrong |= (self.stack ^ u64::from(step.closes)) & (1u64.wrapping_shl(step.closed.into()) - 1);
            self.stack = self.stack.wrapping_shr(step.closed.into());
            // … above the one that marks its end, which minus one has all bits; and there is to be room for what is opened.
            self.wrong |= self.stack.wrapping_sub(1) & HEADROOM;
            self.stack = self.stack.wrapping_shl(step.opened.into()) | u64::from(step.opens);
            self.opens >>= 4;
            self.kinds >>= 4;
            self.waiting -= 4;
        }
    }
}

/// What four brackets come to when those that match among themselves are gone: some that close, then some that open.
#[derive(Clone, Copy)]
struct Step {
    closed: u8,
    /// The kinds that they close, the innermost in the lowest bit.
    closes: u8,
    opened: u8,
    opens: u8,
}

impl Step {
    /// What no stack can take: two brackets face each other and do not match.
    const WRONG: Step = Step { closed: 63, closes: 0, opened: 0, opens: 0 };
    const NONE: Step = Step { closed: 0, closes: 0, opened: 0, opens: 0 };

    /// Of four brackets: which open, in the low half of `four`, and the kinds, in the high half.
    const fn of(four: u8) -> Step {
        let mut step = Step::NONE;
        let mut at = 0;
        while at < 4 {
            let kind = four >> (4 + at) & 1;
            if four >> at & 1 == 1 {
                step.opens = step.opens << 1 | kind;
                step.opened += 1;
            } else if step.opened > 0 {
                if step.opens & 1 != kind {
                    return Step::WRONG;
                }
                step.opens >>= 1;
                step.opened -= 1;
            } else {
                step.closes |= kind << step.closed;
                step.closed += 1;
            }
            at += 1;
        }
        step
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse it out of bounds")]
static STEPS: [Step; 256] = {
    let mut steps = [Step::NONE; 256];
    let mut four = 0;
    while four < 256 {
        steps[four] = Step::of(four as u8);
        four += 1;
    }
    steps
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Brackets as text: `(` and `)` of one kind, `<` and `>` of the other.
    fn closed(text: &str) -> bool {
        let mut nesting = Nesting::new();
        for bracket in text.chars() {
            nesting.add(1, u64::from("(<".contains(bracket)), u64::from("<>".contains(bracket)));
        }
        nesting.finish()
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
        let mut nesting = Nesting::new();
        for _ in 0..100 {
            nesting.add(60, 0x555_5555_5555_5555, 0x333_3333_3333_3333);
        }
        assert!(nesting.finish());
    }

    #[test]
    fn what_is_too_deep_is_not_taken_for_matching() {
        let row = |depth: usize| "(".repeat(depth) + &")".repeat(depth);
        assert!(closed(&row(60)));
        for depth in 60..200 {
            assert!(!closed(&row(depth)) || depth < 64, "{depth}");
        }
    }
}
