//! The texts of durations.go, made by the same rules, and what becomes of them here.

use std::fmt::Write as _;

use flowplug::manifest::units::go_duration;
use sha2::{Digest, Sha256};

const BLOCK: usize = 256;

struct Texts {
    seed: u64,
}

const EDGES: [&str; 19] = [
    "0",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775809",
    "2562047",
    "153722867",
    "9223372036",
    "18446744073709551616",
    "1",
    "00",
    "0.999999999",
    ".5",
    "5.",
    "0.9223372036854775807",
    "0.9223372036854775808",
    ".9223372036854775809",
    "1e3",
    "0x1",
    "1_0",
];
const UNITS: [&str; 11] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h", "s", "m", "h"];
const NOISE: [&str; 14] = ["-", "+", ".", "n", "d", "S", "秒", "٣", "e", "x", ",", "--", "..", "ns"];

impl Texts {
    fn below(&mut self, n: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) % n
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn digits(&mut self, most: u64) -> String {
        let count = self.below(most + 1);
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn next(&mut self) -> String {
        let mut text = self.one_of(&["", "", "", "-", "+"]).to_owned();
        for _ in 0..self.below(4) {
            text += &match self.below(6) {
                0 => self.one_of(&EDGES).to_owned(),
                1 => self.digits(21),
                2 => self.digits(12) + "." + &self.digits(22),
                3 => self.digits(1) + "." + &self.digits(4),
                _ => self.digits(4),
            };
            text += self.one_of(&UNITS);
        }
        match self.below(8) {
            0 => text + self.one_of(&NOISE),
            1 => self.one_of(&NOISE).to_owned() + &text,
            2 => text + &self.digits(3),
            3 => {
                let length = text.chars().count() as u64;
                text.chars().take(self.below(length + 1) as usize).collect()
            }
            _ => text,
        }
    }
}

#[test]
fn durations_are_gos_to_the_letter() {
    let expected = std::fs::read_to_string(super::folder().join("durations.txt")).unwrap();
    let mut texts = Texts { seed: 0x9e37_79b9_7f4a_7c15 };
    let mut taken = 0;
    for (number, line) in expected.lines().enumerate() {
        let block: Vec<(String, Option<i64>)> = (0..BLOCK).map(|_| texts.next()).map(|text| (text.clone(), go_duration(&text))).collect();
        taken += block.iter().filter(|(_, value)| value.is_some()).count();
        let said = block.iter().fold(String::new(), |mut said, (text, value)| {
            writeln!(said, "{text}={}", value.map_or("error".to_owned(), |n| n.to_string())).unwrap();
            said
        });
        let (digest, first) = line.split_once(' ').unwrap();
        let hex: String = Sha256::digest(said.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, digest, "block {number}, which starts with {first} in Go, is here\n{said}");
    }
    assert!(taken > 5_000 && expected.lines().count() * BLOCK > 20_000 + taken, "{taken} texts are durations");
}
