//! A plugin's config as text and as a value, side by side: what is handed on keeps the text that was given.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};

/// A config as it was given; the raw text is none where it is absent.
pub(crate) struct Config<'a> {
    pub(crate) raw: Option<&'a RawValue>,
    pub(crate) value: Value,
}

impl<'a> Config<'a> {
    pub(crate) fn parse(config: &'a [u8]) -> Result<Self> {
        if config.iter().all(u8::is_ascii_whitespace) {
            return Ok(Config { raw: None, value: Value::Null });
        }
        let parsed = serde_json::from_slice(config).and_then(|value| Ok(Config { raw: Some(serde_json::from_slice(config)?), value }));
        parsed.map_err(|e| {
            let text = format!("plugin config is not valid JSON: line {}, column {}.", e.line(), e.column());
            Error::new(Kind::InvalidConfig, text)
        })
    }

    /// As it was given; `null` where it is absent.
    pub(crate) fn text(&self) -> String {
        self.raw.map_or("null", RawValue::get).to_owned()
    }
}

/// The filled config as text. What was given keeps its own text: a number past what a double holds stays what it is.
pub(crate) fn text(raw: &RawValue, given: &Value, filled: &Value) -> String {
    if given == filled {
        return raw.get().to_owned();
    }
    match (given, filled) {
        (Value::Object(given), Value::Object(filled)) => {
            let own: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
            let members = filled.iter().map(|(name, value)| {
                let kept = own.get(name).zip(given.get(name)).map(|(raw, given)| text(raw, given, value));
                format!("{}:{}", json!(name), kept.unwrap_or_else(|| value.to_string()))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        (Value::Array(given), Value::Array(filled)) => {
            let own: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
            let items = own.iter().zip(given).zip(filled).map(|((raw, given), filled)| text(raw, given, filled));
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        _ => filled.to_string(),
    }
}
