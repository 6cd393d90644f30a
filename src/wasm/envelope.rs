//! The answer of a guest: `{"error": …, "data": …}`, checked, or located where the caller parses anyway.

use serde::Deserialize;
use serde_json::value::RawValue;

#[doc(hidden)]
pub use check::is_json_by_each;
use check::{is_json, is_utf8};

use crate::error::{Error, Kind, Result, clean};

#[cfg(target_arch = "x86_64")]
mod check;
#[cfg(test)]
mod tests;

/// Elsewhere serde_json judges alone.
#[cfg(not(target_arch = "x86_64"))]
mod check {
    pub(super) fn is_json(_: &[u8]) -> bool {
        false
    }

    pub fn is_json_by_each(_: &[u8]) -> Vec<bool> {
        Vec::new()
    }

    pub(super) fn is_utf8(text: &[u8]) -> bool {
        simdutf8::basic::from_utf8(text).is_ok()
    }
}

/// What a guest answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
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
/// forms (see [`located`]): whoever parses the data finds the rest.
///
/// Those forms are checked by a quick way that knows no more than yes; everything else, and whatever it says no to, is
/// serde_json's to judge. So a wrong no costs time, and only a wrong yes would be a fault.
pub fn read(bytes: &[u8], trusted: bool) -> Result<Answer<'_>> {
    if bytes.is_empty() {
        return Ok(Answer::Data(b"null"));
    }
    match located(bytes) {
        Some(data) if trusted && is_one_by_its_ends(data) => {
            if is_utf8(data) {
                Ok(Answer::Data(data))
            } else {
                Err(invalid(bytes, "it is not UTF-8"))
            }
        }
        Some(data) if is_json(data) => Ok(Answer::Data(data)),
        _ => parsed(bytes),
    }
}

#[cold]
fn parsed(bytes: &[u8]) -> Result<Answer<'_>> {
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

/// What stands for the data of an envelope in a usual form: `{"data":X}`, with `"error":null` before or behind it or not at all.
/// If `X` is one JSON value in UTF-8, then the whole is such an envelope; nothing else is known of it.
fn located(bytes: &[u8]) -> Option<&[u8]> {
    // As most encoders write it.
    if let Some(data) = bytes.strip_prefix(br#"{"error":null,"data":"#) {
        return Some(trimmed_end(trimmed_start(before(data, b"}")?)));
    }
    let members = after(bytes, b"{")?;
    let no_error = after(members, b"\"error\"").and_then(|rest| after(after(after(rest, b":")?, b"null")?, b","));
    let data = after(after(no_error.unwrap_or(members), b"\"data\"")?, b":")?;
    let mut data = before(data, b"}")?;
    if no_error.is_none() && data.ends_with(b"null") {
        data = before(data, b"null").and_then(|rest| before(before(before(rest, b":")?, b"\"error\"")?, b",")).unwrap_or(data);
    }
    Some(trimmed_end(trimmed_start(data)))
}

/// What follows a word, and the white space before it.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    trimmed_start(text).strip_prefix(word)
}

/// What comes before a word, and the white space behind it.
fn before<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    trimmed_end(text).strip_suffix(word)
}

fn trimmed_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trimmed_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = text {
        text = rest;
    }
    text
}

/// Whether both ends may be those of one value. If it is not one after all, then whoever parses it will find out.
fn is_one_by_its_ends(data: &[u8]) -> bool {
    match data {
        [b'{', .., b'}'] | [b'[', .., b']'] => true,
        [b'"', inner @ .., b'"'] => !inner.contains(&b'"'),
        b"null" | b"true" | b"false" => true,
        [b'-' | b'0'..=b'9', rest @ ..] => rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')),
        _ => false,
    }
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
