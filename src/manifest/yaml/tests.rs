use serde_json::{Value, json};

use super::*;

fn load(text: &str) -> Result<Value, String> {
    let mut problems = Vec::new();
    let node = parse(text.as_bytes(), &mut problems);
    match problems.first() {
        Some(problem) => Err(problem.text()),
        None => Ok(node.unwrap().to_json().unwrap()),
    }
}

#[test]
fn documents_become_trees() {
    for (text, json) in [
        ("", json!({})),
        ("# nothing\n", json!({})),
        ("\u{feff}a: 1\r\nb: [x, 'y']\r\n", json!({"a": 1, "b": ["x", "y"]})),
        ("---\na: 1\n...\n", json!({"a": 1})),
        ("{\"a\":\n\t\"\\ud83d\\ude00\"}", json!({"a": "😀"})),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n", json!({"a": {"b": 1, "c": 2}, "d": {"c": 3, "b": 1}})),
        ("a: &x {b: 1}\ne: &y {b: 2, c: 3}\nd: {<<: [*x, *y]}\n", json!({"a": {"b": 1}, "e": {"b": 2, "c": 3}, "d": {"b": 1, "c": 3}})),
        ("a: !!str 1.10\nb: !!binary aGk=\nc: !mine x\n", json!({"a": "1.10", "b": "hi", "c": "x"})),
        ("a: |\n  x\n  y\nb: >\n  x\n  y\n", json!({"a": "x\ny\n", "b": "x y\n"})),
        ("a: |\n  x\n  é", json!({"a": "x\né"})),
        ("a: !!null x\nb: !!int '1'\n", json!({"a": null, "b": 1})),
        ("{\"a\": \"\u{7f}\u{9f}\u{85}\u{a0}\u{ffff}\u{1ffff}\"}", json!({"a": "\u{7f}\u{9f}\u{85}\u{a0}\u{ffff}\u{1ffff}"})),
        ("{\"<<\": {\"a\": 1}, '<<a': 2}", json!({"<<": {"a": 1}, "<<a": 2})),
    ] {
        assert_eq!(load(text), Ok(json), "{text}");
    }
}

#[test]
fn what_is_no_single_document_is_refused_with_its_place() {
    for (text, message) in [
        ("a: 1\n---\nb: 2\n", "several documents"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4, column 3: b.c: the key stands there already"),
        ("a: [1, {b: 1, b: 2}]", "a[1].b: the key"),
        ("a: [1", "line 1"),
        ("a:\n\tb: 1", "line 2"),
        ("a: *x", "unknown anchor"),
        ("a: &x [*x]", "inside the value that it repeats"),
        ("[a]: 1", "as a key"),
        ("? {a: 1}\n: 1", "as a key"),
        ("a: {<<: 1}", "merges mappings"),
        ("{a: '\u{7f}'}", "unexpected character"),
        ("a: x\0", "line 1, column 5: the document contains a NUL byte"),
    ] {
        let error = load(text).expect_err(text);
        assert!(error.contains(message), "{text}: {error}");
    }
    let mut problems = Vec::new();
    assert!(parse(b"a: 1\nb: \xff", &mut problems).is_none());
    assert_eq!(problems[0].text(), "line 2, column 4: the document is not UTF-8, expected text in UTF-8");
}

#[test]
fn bombs_are_refused() {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let before = i - 1;
        aliases += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{before}"); 9].join(", "));
    }
    let mut merges = "a0: &a0 {k: 1}\n".to_owned();
    for i in 1..100 {
        let before = i - 1;
        merges += &format!("a{i}: &a{i} {{<<: [{}]}}\n", vec![format!("*a{before}"); 50].join(", "));
    }
    let mut deep_aliases = "a0: &a0 [x]\n".to_owned();
    for i in 1..2000 {
        deep_aliases += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let keys: String = (0..150_000).map(|i| format!("{i:x}:\n")).collect();
    for bomb in [
        aliases,
        merges,
        deep_aliases,
        keys,
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        (0..10_000).map(|i| format!("{}a:\n", " ".repeat(i.min(90)))).collect::<String>(),
        (0..400).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>(),
        format!("a: {}{}", "[".repeat(101), "]".repeat(101)),
        "a".repeat(DOCUMENT_MAX + 1),
        "&a ".repeat(300_000),
        "[".to_owned() + &"a,".repeat(500_000) + "]",
    ] {
        let start = std::time::Instant::now();
        assert!(load(&bomb).is_err(), "{:.40}", bomb);
        assert!(start.elapsed().as_secs() < 10, "{:.40}", bomb);
    }
}
