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
        unusual: which(|b| b < b' ' || !b.is_ascii()),
        digit: which(|b| b.is_ascii_digit()),
        zero: which(|b| b == b'0'),
    }
}

#[derive(Clone)]
struct All {
    block: [u8; BLOCK],
    word: u64,
    of: u64,
}

impl Work for All {
    type Output = (Classes, u64, [u64; 2], u64, [u64; 2]);

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let gathered = lanes.gather(self.of, [self.word, !self.word]);
        let words = [lanes.word(&self.block, b"true"), lanes.word(&self.block, b"false")];
        (lanes.classes(&self.block), lanes.parity(self.word), gathered, lanes.high(&self.block), words)
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
        let mut block: [u8; BLOCK] = std::array::from_fn(|at| if round < 256 { (round as usize + at) as u8 } else { next() as u8 });
        let (one, other) = (next() as usize % 61, next() as usize % 60);
        block[one..one + 4].copy_from_slice(b"true");
        if round % 3 == 0 {
            block[other..other + 5].copy_from_slice(b"false");
        }
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
        let high = block.iter().enumerate().map(|(at, byte)| u64::from(!byte.is_ascii()) << at).sum();
        let stands = |word: &[u8]| (0..BLOCK).map(|at| u64::from(block[at..].starts_with(word)) << at).sum();
        let expected = (classes, parity, [gathered(word), gathered(!word)], high, [stands(b"true"), stands(b"false")]);
        for (level, mut found) in each_level(&All { block, word, of }) {
            found.0.bracket &= classes.structural;
            found.0.opening &= classes.structural;
            found.0.curly &= classes.bracket;
            assert_eq!(found, expected, "{level:?} {block:?} {word:x} {of:x}");
        }
    }
}

#[test]
fn what_is_not_ascii_is_found_wherever_it_stands() {
    for length in (0..200).chain(500..600).chain(1020..1030) {
        let mut text = vec![b'a'; length];
        for (level, ascii) in each_level(&Ascii(&text)) {
            assert!(ascii || length < BLOCK, "{level:?} {length}");
        }
        for at in 0..length {
            text[at] = 0xc3;
            for (level, ascii) in each_level(&Ascii(&text)) {
                assert!(!ascii, "{level:?}: {at} of {length}");
            }
            text[at] = b'a';
        }
    }
}

#[test]
fn the_last_block_is_text_a_bracket_and_spaces() {
    #[derive(Clone)]
    struct Last(Vec<u8>);
    impl Work for Last {
        type Output = [u8; BLOCK];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [u8; BLOCK] {
            lanes.last(&self.0, b']')
        }
    }
    for length in 0..BLOCK {
        let text: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let mut expected = [b' '; BLOCK];
        expected[..length].copy_from_slice(&text);
        expected[length] = b']';
        for (level, found) in each_level(&Last(text)) {
            assert_eq!(found, expected, "{level:?} {length}");
        }
    }
}
