//! Against serde_json and std, at each level of instructions that this machine has.

use serde_json::value::RawValue;

use super::is_utf8;
use super::scan::Inside;
use crate::sys::simd;

/// What serde_json says of a value that white space was trimmed from.
fn judged_by_serde(value: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(value).is_ok_and(|read| read.get().len() == value.len())
}

/// What we say, which is the same at each level.
fn judged(value: &[u8]) -> bool {
    let levels = simd::each_level(&Inside::of(value));
    let (_, first) = levels[0];
    for (level, verdict) in &levels {
        assert_eq!(*verdict, first, "{level:?}: {}", value.escape_ascii());
    }
    first
}

/// Compares the two; what is wanted is agreement on everything but great depth.
fn agreed(value: &[u8]) -> bool {
    let expected = judged_by_serde(value);
    assert_eq!(judged(value), expected, "{}", value.escape_ascii());
    expected
}

/// A value at every place of a block, in an array, in an object, and alone.
fn agreed_everywhere(value: &str) -> bool {
    let expected = agreed(value.as_bytes());
    for before in 0..=64 {
        for text in [format!("[{}{value}]", " ".repeat(before)), format!("{{\"{}\":{value}}}", "k".repeat(before))] {
            assert_eq!(agreed(text.as_bytes()), expected, "{text}");
        }
    }
    expected
}

/// The same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % bound
    }
}

/// Of values that are written with white space between them.
fn all_agreed(good: &str, bad: &str) {
    for value in good.split_ascii_whitespace() {
        assert!(agreed_everywhere(value), "{value}");
    }
    for value in bad.split_ascii_whitespace() {
        assert!(!agreed_everywhere(value), "{value}");
    }
}

#[test]
fn numbers_and_literals() {
    all_agreed(
        "0 -0 1 10 -1 0.0 0.10 1e5 1E5 1e+5 1e-05 0e0 0.5e00 -12.5E-3 123456789012345678901234567890 1e999 true false null",
        "00 01 -01 +1 - 1. .5 -.5 1.e5 1e 1e+ 1e5.5 1.5.5 1ee5 0x10 1_000 1- 1\\ \\1 -- // Infinity -Infinity NaN nan undefined \
         True tru truee true1 nul nulll nulL fals falsey falsE t f n e5 1a 1\u{661} 1\u{0} 1\u{7f} \u{feff}1 true\u{0} nullé",
    );
    for bad in ["1 2", "0 1", "- 1", "1 .5", "1. 5", "1 e5", "true false", "tr ue"] {
        assert!(!agreed_everywhere(bad), "{bad}");
    }
}

#[test]
fn strings_and_escapes() {
    all_agreed(
        r#""" "a" "\"" "\\" "\\\"" "\\\\" "\/\b\f\n\r\t" "\u0000\uABCD\uabcd" "\ud800" "\udc00\ud800x" "{[]}:," "é€😀" "//x" "1,2:3""#,
        r#"" """ "a a" "\" "\\\" "\x" "\u" "\u12" "\u12g4" "\U0041" "\'" "\é" 'a' "a""b" "a"1 1"a" \"a" "\u00"41" "a"\ "a"\" "#,
    );
    for good in ["\" \"", "\"\u{7f}\"", "\"\u{2028}\""] {
        assert!(agreed_everywhere(good), "{good}");
    }
    for bad in ["\"\n\"", "\"\t\"", "\"\u{0}\"", "\"\u{1f}\"", "\"a\" \"b\"", "\"\\\n\"", "\"\\u00 41\""] {
        assert!(!agreed_everywhere(bad), "{bad}");
    }
    for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"] {
        for before in 0..130 {
            assert!(!agreed(&[b"\"", &b"k".repeat(before)[..], bytes, b"\""].concat()));
        }
    }
}

#[test]
fn containers() {
    all_agreed(
        r#"{} [] [[],{}] {"a":{},"b":[]} [{"a":[{"b":[1,"c"]}],"":null},1] [[[]],[],[[]]]"#,
        r#"{ } [ ] [} {] [[] []] {{}} [,] {,} [1,] [,1] [1,,2] {"a"} {"a":} {"a":1,} {:1} {1:1} {"a":1:2} {"a":1"b":2} {"a",1}
           ["a":1] [1:2] {"a":1,2} [1,"a":2] [{"a":1,[2]}] {"a":[1,2}] [{]} {"a":{},{}} [[],"a":1] [{}[]] [1[]] []1 1[] [1]{
           {"a":1}} "a":1 {"a":[]:1} {[]:1} ["a"{}] [{}"a"] {"a"[]} {"a":[]"b"} {"a":1}:2 [[]:1] {[]} {{}:1} {1} {true:1}"#,
    );
    for good in ["{ }", "[ \t\r\n]", "{ \"a\" : [ 1 , { } ] }"] {
        assert!(agreed_everywhere(good), "{good}");
    }
    for bad in ["{\"a\":1 \"b\":2}", "[1 2]", "[\u{b}1]", "[1\u{c}]", "[1\u{c}2]", "{\"a\"\u{1a}1}", "[1]\u{0}", "[\u{a0}]", "[\u{2028}]"] {
        assert!(!agreed_everywhere(bad), "{bad}");
    }
    // Inside of another container these are right.
    for bad in ["", " ", "1,2", "[],[]", "[1],[2]", "{},{}", "{\"a\":1},{\"b\":2}", "1,\"a\":2", "[]],[[]"] {
        assert!(!agreed(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn every_short_row_of_tokens_is_judged_as_by_serde() {
    const TOKENS: [&str; 8] = ["{", "}", "[", "]", ":", ",", "\"\"", "1"];
    let mut good = 0;
    for length in 1..=6 {
        for row in 0..8usize.pow(length) {
            let text: String = (0..length).map(|at| TOKENS[row >> (3 * at) & 7]).collect();
            // Two digits that touch are one number.
            good += u32::from(!text.contains("11") && agreed(text.as_bytes()));
        }
    }
    assert_eq!(good, 28);
}

#[test]
fn depth_is_followed_up_to_its_bound() {
    for depth in 1..60 {
        for (open, close) in [("[", "]"), ("{\"\":", "}"), ("[0,{\"\":", "}]")] {
            let text = open.repeat(depth) + "1" + &close.repeat(depth);
            let levels = 1 + usize::from(close.len() == 2);
            assert!(judged_by_serde(text.as_bytes()));
            assert!(judged(text.as_bytes()) || depth * levels > 59, "{text}");
        }
    }
    for depth in 60..1000 {
        for end in [depth - 1, depth + 1] {
            assert!(!judged(("[".repeat(depth) + &"]".repeat(end)).as_bytes()));
        }
    }
}

/// Valid JSON with a bit of everything.
const SEEDS: [&str; 8] = [
    r#"[{"id":12345,"name":"flow","tags":["a","b"],"ok":true},{"id":12346,"name":"plug","tags":[],"ok":false}]"#,
    r#"{"a":{"b":{"c":[[[1],[2]],[[],[{}]]]}},"d":[true,false,null,-1,0.5,1e10,-2.5E-3,0,10]}"#,
    r#"[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0]"#,
    r#"[[[[[[[[[[]]]]]]]]],[[[[{"a":[[[[[[{}]]]]]]}]]]],{"":{"":{"":{"":[]}}}}]"#,
    r#"{"text":"a \"quoted\" \\ and \u00e9\ud83d\ude00 \/ \n\t\r\b\f","ü":"é€😀","":"","{[":"]},:"}"#,
    "{\n  \"pretty\": [\n    1,\n    { \"a\": \"b\" },\n    [ ]\n  ],\r\n\t\"more\" : { } , \"x\" : -0.0 }",
    r#""a string alone, of some length, with \"escapes\" and more than 64 bytes, so that it spans blocks \\""#,
    r#"[{"k":[{"k":[{"k":[1,"v",{"k":null}]}]}]},"s",{"k":"v","l":"w"},["m",["n"]],9.75]"#,
];

/// The text with up to three changes: bytes put there, taken away, copied or swapped.
fn changed(random: &mut Random, mut text: Vec<u8>) -> Vec<u8> {
    const CHANGES: &[u8] = b"{}[]:,\"\\ 019-.eEtfnu\n\t\x00\x0c\x1a\x1f\x7f\x80\xc3\xff/a+";
    for _ in 0..=random.below(3) {
        let (at, change) = (random.below(text.len()), CHANGES[random.below(CHANGES.len())]);
        match random.below(5) {
            0 => text[at] = change,
            1 => text.insert(at, change),
            2 => drop(text.remove(at)),
            3 => {
                let to = (at + random.below(20)).min(text.len());
                let part = text[at..to].to_vec();
                let there = random.below(text.len());
                text.splice(there..there, part);
            }
            _ => {
                let other = random.below(text.len());
                text.swap(at, other);
            }
        }
        if text.is_empty() {
            break;
        }
    }
    text
}

#[test]
fn what_is_changed_at_random_is_judged_as_by_serde() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut good = 0;
    for round in 0..200_000 {
        let seed = SEEDS[round % SEEDS.len()].as_bytes();
        // White space inside of the outermost bracket moves it to another place of the blocks.
        let mut text = seed.to_vec();
        if seed[0] != b'"' {
            text.splice(1..1, std::iter::repeat_n(b' ', random.below(64)));
        }
        good += u32::from(agreed(changed(&mut random, text).trim_ascii()));
    }
    // A fair part of both is among them.
    assert!((20_000..180_000).contains(&good), "{good}");
}

#[test]
fn what_is_long_and_changed_at_random_is_judged_as_by_serde() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut good = 0;
    for _ in 0..10_000 {
        let mut text = String::from("[");
        for _ in 0..random.below(60) {
            text += SEEDS[random.below(SEEDS.len())];
            text += [",", ", ", ",\n    "][random.below(3)];
        }
        text += "0]";
        good += u32::from(agreed(changed(&mut random, text.into_bytes()).trim_ascii()));
    }
    assert!((1_000..9_000).contains(&good), "{good}");
}

#[test]
fn what_is_not_utf8_is_found_wherever_it_stands() {
    for length in (0..200).chain(500..600).chain(1020..1030) {
        let mut text = vec![b'a'; length];
        assert!(is_utf8(&text));
        for at in 0..length {
            text[at] = 0xc3;
            assert!(!is_utf8(&text), "{at} of {length}");
            text[at] = b'a';
        }
    }
    assert!(is_utf8("é".repeat(500).as_bytes()));
}
