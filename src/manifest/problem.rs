//! What is wrong with a document, place by place, told so that it can be mended and so that no secret is shown.

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, clean};
use crate::manifest::node::{Body, Node};

/// The most problems that one error lists; the rest is counted.
const LISTED_MAX: usize = 50;

/// The most bytes shown of a value.
const SHOWN_MAX: usize = 60;

/// One problem. Line and column count from 1; 0 where there is no text to point at.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    /// The path of the field, `wasm.permissions.memory.max`; empty for the document as a whole.
    pub(crate) field: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) suggestion: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Syntax,
    Limit,
    DuplicateKey,
    Missing,
    WrongType,
    InvalidValue,
    UnknownField,
}

impl Code {
    /// Whether the document could not be understood at all, or not as the types of its fields.
    pub(crate) fn is_of_the_document(self) -> bool {
        matches!(self, Code::Syntax | Code::Limit | Code::DuplicateKey | Code::WrongType)
    }

    fn name(self) -> &'static str {
        match self {
            Code::Syntax => "syntax",
            Code::Limit => "limit",
            Code::DuplicateKey => "duplicate_key",
            Code::Missing => "missing",
            Code::WrongType => "wrong_type",
            Code::InvalidValue => "invalid_value",
            Code::UnknownField => "unknown_field",
        }
    }
}

impl Problem {
    pub(crate) fn new(code: Code, field: &str, at: (u32, u32), what: impl Into<String>, expected: impl Into<String>) -> Self {
        let (line, column) = at;
        let field = clean(field, 200);
        Problem { code, field, line, column, what: what.into(), found: String::new(), expected: expected.into(), suggestion: None }
    }

    /// The same problem with the value found, cut, or what can be said of it where it may be a secret.
    pub(crate) fn found(mut self, node: &Node) -> Self {
        self.found = match &node.body {
            Body::List(_) => "a list".to_owned(),
            Body::Map(_) => "a mapping".to_owned(),
            Body::Scalar(scalar) if scalar.is_null() => "null".to_owned(),
            Body::Scalar(scalar) if may_be_secret(&self.field, &scalar.text) => {
                format!("a value of {} bytes, not shown", scalar.text.len())
            }
            Body::Scalar(scalar) => format!("{:?}", clean(&scalar.text, SHOWN_MAX)),
        };
        self
    }

    pub(crate) fn suggest(mut self, suggestion: Option<&str>) -> Self {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }

    /// The problem as one line.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if self.line > 0 {
            text = format!("line {}, column {}: ", self.line, self.column);
        }
        if !self.field.is_empty() {
            text += &format!("{}: ", self.field);
        }
        text += &self.what;
        if !self.expected.is_empty() {
            text += &format!(", expected {}", self.expected);
        }
        if !self.found.is_empty() {
            text += &format!(", found {}", self.found);
        }
        if let Some(suggestion) = &self.suggestion {
            text += &format!("; did you mean {suggestion:?}?");
        }
        text
    }

    fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("code".to_owned(), json!(self.code.name()));
        members.insert("field".to_owned(), json!(self.field));
        members.insert("line".to_owned(), json!(self.line));
        members.insert("column".to_owned(), json!(self.column));
        members.insert("message".to_owned(), json!(self.what));
        members.insert("found".to_owned(), json!(self.found));
        members.insert("expected".to_owned(), json!(self.expected));
        if let Some(suggestion) = &self.suggestion {
            members.insert("suggestion".to_owned(), json!(suggestion));
        }
        Value::Object(members)
    }
}

/// One error that lists them all, in the order of the text.
pub(crate) fn error(kind: Kind, subject: &str, mut problems: Vec<Problem>) -> Error {
    problems.sort_by_key(|p| (p.line, p.column));
    let more = problems.len().saturating_sub(LISTED_MAX);
    problems.truncate(LISTED_MAX);
    let mut message = format!("{subject} cannot be used:");
    for problem in &problems {
        message.push('\n');
        message += &problem.text();
    }
    if more > 0 {
        message += &format!("\nand {more} more");
    }
    Error::new(kind, message).with_detail("problems", problems.iter().map(Problem::to_json).collect::<Value>())
}

/// Those unknown fields that were probably meant to be a field that is missing.
pub(crate) fn mistyped(problems: &[Problem], unknown: Vec<Problem>) -> Vec<Problem> {
    let meant = |problem: &Problem| {
        let name = problem.suggestion.as_ref()?;
        Some(problem.field.rsplit_once('.').map_or_else(|| name.clone(), |(section, _)| format!("{section}.{name}")))
    };
    let is_missing = |field: String| problems.iter().any(|problem| problem.code == Code::Missing && problem.field == field);
    unknown.into_iter().filter(|problem| meant(problem).is_some_and(is_missing)).collect()
}

/// Whether a value must not be shown: by its field, or because it looks like a key, a token or a URL with a password.
fn may_be_secret(field: &str, text: &str) -> bool {
    let field = field.to_ascii_lowercase();
    if field.starts_with("config") || field.contains(".env.") {
        return true;
    }
    if ["secret", "token", "passw", "credential", "api_key", "apikey", "private", "auth."].iter().any(|word| field.contains(word)) {
        return true;
    }
    if text.contains("-----BEGIN") || (text.contains("://") && text.contains('@')) {
        return true;
    }
    let longest_word =
        text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c))).max_by_key(|word| word.len()).unwrap_or("");
    longest_word.len() >= 20 && longest_word.bytes().any(|b| b.is_ascii_digit()) && longest_word.bytes().any(|b| b.is_ascii_alphabetic())
}

/// The candidate that was probably meant by a mistyped word.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let fold = |text: &str| text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect::<Vec<char>>();
    if word.len() > 40 {
        return None;
    }
    let word = fold(word);
    candidates
        .iter()
        .map(|candidate| (distance(&word, &fold(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3) && *distance < word.len().max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop, replace or swap with their neighbour to make one word the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut last_b = None;
        for (j, &cb) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, j) + usize::from(ca != cb)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if last_a == Some(cb) && last_b == Some(ca) && j > 0 {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
            last_b = Some(cb);
        }
        before = std::mem::replace(&mut above, row);
        last_a = Some(ca);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_others_are_not() {
        let names = ["execution", "filesystem", "http", "memory", "max_instances"];
        for (word, meant) in [
            ("excution", "execution"),
            ("exceution", "execution"),
            ("Memory", "memory"),
            ("maxInstances", "max_instances"),
            ("max-instance", "max_instances"),
            ("file_systems", "filesystem"),
            ("https", "http"),
        ] {
            assert_eq!(nearest(word, &names), Some(meant), "{word}");
        }
        for word in ["", "x", "network", "cpu", "schema", &"execution".repeat(100)] {
            assert_eq!(nearest(word, &names), None, "{word}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let shown =
            |field: &str, text: &str| Problem::new(Code::InvalidValue, field, (1, 1), "x", "y").found(&Node::from_json(&json!(text))).found;
        assert_eq!(shown("wasm.pool.wait_timeout", "5 s"), "\"5 s\"");
        for (field, text) in [
            ("grpc.env.API", "hunter2"),
            ("config_schema.default", "hunter2"),
            ("wasm.token", "hunter2"),
            ("name", "-----BEGIN PRIVATE KEY-----"),
            ("wasm.module", "https://user:hunter2@example.com"),
            ("author", "key ghp_hunter2hunter2hunter2"),
        ] {
            assert!(!shown(field, text).contains("hunter2"), "{field}");
        }
        assert!(shown("wasm.module", &"x y ".repeat(1000)).len() < 80);
    }
}
