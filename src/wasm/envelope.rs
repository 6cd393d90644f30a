//! The answer of a guest: `{"error": …, "data": …}`, checked, or located where the caller parses anyway.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result, clean};

/// What a guest answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The data, byte for byte: one JSON value.
    Data(&'a [u8]),
    /// Its error.
    Failed(String),
}

/// How much of an answer that is not one is shown.
const SHOWN: usize = 200;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Reads an envelope. An empty one is `null`. With `trusted` only its UTF-8 is checked where it has one of the usual
/// forms, `{"data":X}` or `{"error":null,"data":X}`: whoever parses `X` finds the rest.
pub(super) fn read(bytes: &[u8], trusted: bool) -> Result<Answer<'_>> {
    if bytes.is_empty() {
        return Ok(Answer::Data(b"null"));
    }
    if trusted && let Some(data) = located(bytes) {
        if simdutf8::basic::from_utf8(bytes).is_err() {
            return Err(invalid(bytes, "it is not UTF-8"));
        }
        return Ok(Answer::Data(data));
    }
    checked(bytes)
}

fn checked(bytes: &[u8]) -> Result<Answer<'_>> {
    // A derived struct would take an array, too.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(invalid(bytes, "it is not a JSON object"));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|e| invalid(bytes, &e.to_string()))?;
    match envelope.error.map(RawValue::get) {
        None | Some("null") => Ok(Answer::Data(envelope.data.map_or(b"null", |data| data.get().as_bytes()))),
        Some(error) => Ok(Answer::Failed(serde_json::from_str(error).unwrap_or_else(|_| error.to_owned()))),
    }
}

/// The data of an envelope in a usual form, unless its end shows that more than the data may stand there.
fn located(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"{\"data\":").or_else(|| bytes.strip_prefix(b"{\"error\":null,\"data\":"))?;
    let data = rest.strip_suffix(b"}")?;
    let whole = match data {
        [b'{', .., b'}'] | [b'[', .., b']'] => true,
        [b'"', inner @ .., b'"'] => !inner.contains(&b'"'),
        b"null" | b"true" | b"false" => true,
        [b'-' | b'0'..=b'9', rest @ ..] => rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')),
        _ => false,
    };
    whole.then_some(data)
}

#[cold]
fn invalid(bytes: &[u8], why: &str) -> Error {
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let text = clean(&String::from_utf8_lossy(shown), SHOWN);
    Error::new(
        Kind::InvalidResponse,
        format!(
            "The plugin's answer is not an envelope {{\"error\": …, \"data\": …}}: {why}. It has {} bytes and begins with {text:?}.",
            bytes.len()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str, trusted: bool) -> String {
        match read(text.as_bytes(), trusted).unwrap() {
            Answer::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
            Answer::Failed(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn data_comes_out_byte_for_byte() {
        for trusted in [false, true] {
            for (text, expected) in [
                ("", "null"),
                ("{}", "null"),
                (r#"{"data":null}"#, "null"),
                (r#"{"error":null,"data":{"a": 1.0e5}}"#, r#"{"a": 1.0e5}"#),
                (r#"{"data":[1, 2 ],"error":null}"#, "[1, 2 ]"),
                (r#" { "data" : "\u0041" , "more" : {"error": 1} } "#, r#""\u0041""#),
                (r#"{"data":"a\"b"}"#, r#""a\"b""#),
                (r#"{"data":-1.5}"#, "-1.5"),
                (r#"{"err\u006fr":null,"data":7}"#, "7"),
            ] {
                assert_eq!(data(text, trusted), expected, "{text} {trusted}");
            }
        }
    }

    #[test]
    fn an_error_is_found_in_either_place() {
        for trusted in [false, true] {
            for (text, expected) in [
                (r#"{"error":"boom","data":null}"#, "boom"),
                (r#"{"data":null,"error":"b\u00f6se"}"#, "böse"),
                (r#"{"data":"x","error":"boom"}"#, "boom"),
                (r#"{"data":{"a":1},"error":"boom"}"#, "boom"),
                (r#"{"data":12,"error":"boom"}"#, "boom"),
                (r#"{"error":""}"#, ""),
                (r#"{"error":{"code":1}}"#, r#"{"code":1}"#),
                (r#"{"error":"\ud800"}"#, r#""\ud800""#),
            ] {
                assert_eq!(read(text.as_bytes(), trusted).unwrap(), Answer::Failed(expected.to_owned()), "{text} {trusted}");
            }
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let deep = format!("{{\"data\":{}", "[".repeat(1 << 20));
        for text in [
            "nope",
            "[null,1]",
            "null",
            r#"{"data":}"#,
            r#"{"data":1"#,
            r#"{"data":1}x"#,
            r#"{"data":1,"data":2}"#,
            r#"{"data":1 2}"#,
            &deep,
        ] {
            for trusted in [false, true] {
                assert_eq!(read(text.as_bytes(), trusted).unwrap_err().kind(), Kind::InvalidResponse, "{text:.40}");
            }
        }
        for trusted in [false, true] {
            read(b"{\"data\":\"\xff\"}", trusted).unwrap_err();
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{{\"data\":{}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        read(deep.as_bytes(), false).unwrap();
    }
}
