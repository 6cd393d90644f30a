use super::*;

/// The same by hand.
fn classes(block: &[u8; BLOCK]) -> Classes {
    let which = |is: fn(u8) -> bool| block.iter().enumerate().map(|(at, byte)| u64::from(is(*byte)) << at).sum();
    Classes {
        quote: which(|b| b == b'"'),
        backslash: which(|b| b == b'\\'),
        structural: which(|b| b"{}[]:,".contains(&b)),
        bracket: which(|b| b"{}[]".contains(&b)),
        opening: which(|b| b"{[:".contains(&b)),
        curly: which(|b| b"{}".contains(&b)),
        white: which(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')),
        control: which(|b| b < b' '),
        digit: which(|b| b.is_ascii_digit()),
        zero: which(|b| b == b'0'),
        high: which(|b| !b.is_ascii()),
    }
}

#[derive(Clone)]
struct All {
    block: [u8; BLOCK],
    word: u64,
    of: u64,
}

impl Work for All {
    type Output = (Classes, u64, [u64; 2], u64);

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let gathered = lanes.gather(self.of, [self.word, !self.word]);
        (lanes.classes(&self.block), lanes.parity(self.word), gathered, lanes.high(&self.block))
    }
}

#[test]
fn every_level_finds_what_is_found_by_hand() {
    let mut random = 1u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..2000u64 {
        // Every byte stands at every place once, then chance decides.
        let block = std::array::from_fn(|at| if round < 256 { (round as usize + at) as u8 } else { next() as u8 });
        let (word, of) = match round {
            0 => (u64::MAX, u64::MAX),
            1 => (u64::MAX, 0),
            _ => (next(), if round % 2 == 0 { next() } else { next() & next() & next() }),
        };
        let parity = (0..64).map(|at| u64::from((word << (63 - at)).count_ones() % 2) << at).sum::<u64>();
        let gathered = |word: u64| {
            let places = (0..64).filter(|at| of >> at & 1 == 1);
            places.enumerate().map(|(to, from)| (word >> from & 1) << to).sum::<u64>()
        };
        let classes = classes(&block);
        let expected = (classes, parity, [gathered(word), gathered(!word)], classes.high);
        for (level, mut found) in each_level(&All { block, word, of }) {
            found.0.bracket &= classes.structural;
            found.0.opening &= classes.structural;
            found.0.curly &= classes.bracket;
            assert_eq!(found, expected, "{level:?} {block:?} {word:x} {of:x}");
        }
    }
}
