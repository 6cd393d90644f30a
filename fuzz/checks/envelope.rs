//! Envelopes: what the quick way takes is what serde_json takes, by all kinds of instructions.

use flowplug::wasm::envelope::{Answer, is_json_by_each, read};
use serde_json::value::RawValue;

/// Nested deeper, JSON may be refused by the quick way.
const DEPTH: usize = 59;

/// What a value may stand behind in an array: other places of the blocks, a string, a container.
const BEFORE: [&str; 4] = [" ", "\"\",", "{},", "[[1],2],"];
const FORMS: [&str; 4] = ["{\"data\":", "{\"error\":null,\"data\":", " { \"data\" : ", "{\"error\": null, \"data\": "];
const ENDS: [&str; 4] = ["}", ",\"error\":null}", " , \"error\" : null } ", ",\"more\":0}"];

pub(crate) fn check(data: &[u8]) {
    value(data.trim_ascii());
    envelope(data);
    // The rest is chosen by the input, too.
    let chosen = data.iter().fold(data.len(), |sum, byte| sum * 31 % 4093 + usize::from(*byte));
    let (place, which) = (chosen % 64, |table: &[&'static str; 4], by: usize| table[chosen / by % 4]);
    let (before, form, end) = (which(&BEFORE, 1), which(&FORMS, 4), which(&ENDS, 16));
    value(&[b"[", before.as_bytes(), " ".repeat(place).as_bytes(), data, b"]"].concat());
    envelope(&[form.as_bytes(), data, end.as_bytes()].concat());
}

fn value(value: &[u8]) {
    let expected = serde_json::from_slice::<&RawValue>(value).is_ok_and(|read| read.get().len() == value.len());
    for verdict in is_json_by_each(value) {
        assert!(verdict == expected || (expected && deep(value)), "{verdict}: {}", value.escape_ascii());
    }
}

/// Whether it may be too deep, brackets in strings taken for brackets.
fn deep(value: &[u8]) -> bool {
    value.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() >= DEPTH
}

fn envelope(bytes: &[u8]) {
    let answer = read(bytes, false).ok();
    // With another member first it has none of the forms that the quick way knows.
    if let Some(members) = bytes.trim_ascii_start().strip_prefix(b"{")
        && !members.trim_ascii_start().starts_with(b"}")
    {
        assert_eq!(read(&[b"{\"\":0,", members].concat(), false).ok(), answer, "{}", bytes.escape_ascii());
    }
    if let Ok(Answer::Data(located)) = read(bytes, true) {
        assert!(std::str::from_utf8(located).is_ok());
        // Where the whole is an envelope, more than the data may be located, but never less or another's.
        assert!(!matches!(answer, Some(Answer::Data(data)) if !located.starts_with(data)), "{}", bytes.escape_ascii());
    }
}
