//! A parsed document with the place of everything in it, and how its scalars are understood.

use serde_json::{Map, Number, Value};

/// A value and where it starts; line and column count from 1, and are 0 where the value came from no text.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that it can be a number, a bool or null; else it is text.
    pub(crate) plain: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Node {
    /// Null and the empty text are absent everywhere, so that a Go struct marshalled as it is parses back.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(&self.body, Body::Scalar(scalar) if scalar.text.is_empty() || scalar.is_null())
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar(scalar) if scalar.is_null())
    }

    /// The same tree without places.
    pub(crate) fn from_json(value: &Value) -> Node {
        let scalar = |text: String, plain| Body::Scalar(Scalar { text, plain });
        let body = match value {
            Value::Null => scalar(String::new(), true),
            Value::Bool(b) => scalar(b.to_string(), true),
            Value::Number(n) => scalar(n.to_string(), true),
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Body::List(items.iter().map(Node::from_json).collect()),
            Value::Object(members) => {
                let key = |text: &String| Key { text: text.clone(), line: 0, column: 0 };
                Body::Map(members.iter().map(|(name, value)| (key(name), Node::from_json(value))).collect())
            }
        };
        Node { line: 0, column: 0, body }
    }

    /// The tree as JSON, scalars by YAML's core schema; an error for what JSON cannot say (`.inf`).
    pub(crate) fn to_json(&self) -> Result<Value, &'static str> {
        Ok(match &self.body {
            Body::Scalar(scalar) => scalar.to_json()?,
            Body::List(items) => Value::Array(items.iter().map(Node::to_json).collect::<Result<_, _>>()?),
            Body::Map(entries) => {
                let mut members = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    members.insert(key.text.clone(), value.to_json()?);
                }
                Value::Object(members)
            }
        })
    }
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// A bool in the words of YAML 1.2, without quotes; flowbot's parser takes none of YAML 1.1's either.
    pub(crate) fn to_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            _ if !self.plain => None,
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// A whole number as flowbot's parser takes it into an int field: signs, `0x`, `0o`, `0b`, a leading zero for
    /// octal, underscores, quotes, and a float without a fraction.
    pub(crate) fn to_int(&self) -> Option<i64> {
        if self.text.is_empty() || self.text.len() > 80 {
            return None;
        }
        let text = self.text.replace('_', "");
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let radix = |digits: &str, radix| if digits.starts_with(['+', '-']) { None } else { i128::from_str_radix(digits, radix).ok() };
        let number = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            radix(hex, 16)
        } else if let Some(octal) = digits.strip_prefix("0o").or_else(|| digits.strip_prefix("0O")) {
            radix(octal, 8)
        } else if let Some(binary) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
            radix(binary, 2)
        } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
            // With an 8 or a 9 in it, the zeros only pad it.
            radix(digits, 8).or_else(|| radix(digits, 10))
        } else {
            radix(digits, 10).or_else(|| whole_float(digits).filter(|_| !digits.starts_with(['+', '-'])))
        }?;
        i64::try_from(if negative { -number } else { number }).ok()
    }

    fn to_json(&self) -> Result<Value, &'static str> {
        if !self.plain {
            return Ok(Value::String(self.text.clone()));
        }
        if self.is_null() {
            return Ok(Value::Null);
        }
        if let Some(bool) = self.to_bool() {
            return Ok(Value::Bool(bool));
        }
        Ok(match core_number(&self.text)? {
            Some(number) => Value::Number(number),
            None => Value::String(self.text.clone()),
        })
    }
}

fn whole_float(digits: &str) -> Option<i128> {
    if !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    // Past 2^53 a float no longer says which whole number was meant.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

/// A number of YAML's core schema; none if the text is none.
fn core_number(text: &str) -> Result<Option<Number>, &'static str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("a number that JSON can say");
    }
    let digits_of = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix).filter(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))?;
        u64::from_str_radix(digits, radix).ok().map(Number::from)
    };
    if let Some(number) = digits_of("0x", 16).or_else(|| digits_of("0o", 8)) {
        return Ok(Some(number));
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !unsigned.bytes().any(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    if !unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return Ok(None);
    }
    // JSON's -0 is no whole number: those have no zero below zero.
    if let Ok(whole) = text.parse::<i64>()
        && (whole != 0 || !text.starts_with('-'))
    {
        return Ok(Some(whole.into()));
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Ok(Some(whole.into()));
    }
    match text.parse::<f64>() {
        Ok(float) => Number::from_f64(float).map(Some).ok_or("a number that JSON can say"),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn whole_numbers_are_those_of_the_go_parsers() {
        for (text, number) in [
            ("4", 4),
            ("+4", 4),
            ("-4", -4),
            ("0", 0),
            ("0x10", 16),
            ("010", 8),
            ("089", 89),
            ("0o17", 15),
            ("0b11", 3),
            ("1_0", 10),
            ("4.0", 4),
            ("1e1", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(plain(text).to_int(), Some(number), "{text}");
        }
        for text in ["", "4.7", "four", "9223372036854775808", "0x", "++4", "0x-4", "1e400", "inf", "nan", "٤", "1 0"] {
            assert_eq!(plain(text).to_int(), None, "{text}");
        }
    }

    #[test]
    fn scalars_become_json_by_the_core_schema() {
        for (text, json) in [
            ("", "null"),
            ("~", "null"),
            ("True", "true"),
            ("yes", "\"yes\""),
            ("1.10", "1.1"),
            ("-17", "-17"),
            ("+17", "17"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("1e3", "1000.0"),
            (".5", "0.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.2.3", "\"1.2.3\""),
            ("2020-01-01", "\"2020-01-01\""),
            ("-0", "-0.0"),
            ("-", "\"-\""),
            (".", "\".\""),
            ("0x", "\"0x\""),
            ("infinity", "\"infinity\""),
        ] {
            assert_eq!(plain(text).to_json().unwrap().to_string(), json, "{text}");
        }
        assert!(plain("-.inf").to_json().is_err());
        assert!(plain("1e999").to_json().is_err());
        assert_eq!(Scalar { text: "1".to_owned(), plain: false }.to_json().unwrap(), "1");
    }
}
