//! `${env:NAME}` in a plugin's config: what must not stand in a file comes from the environment.

use std::env::{self, VarError};

use serde_json::Value;

use crate::error::{Error, Kind, Result};

const OPEN: &str = "${env:";

/// The config with every `${env:NAME}` in its texts replaced, once: a value of the environment is taken as it is. Names of
/// members are left alone.
///
/// Errors: `invalid_config`, which names the variable that is missing, and never shows a value.
pub(super) fn expand(value: &Value) -> Result<Value> {
    with(value, &|name| env::var(name))
}

fn with(value: &Value, get: &dyn Fn(&str) -> Result<String, VarError>) -> Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(expand_text(text, get)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| with(item, get)).collect::<Result<_>>()?),
        Value::Object(members) => {
            let expanded = members.iter().map(|(name, value)| Ok((name.clone(), with(value, get)?)));
            Value::Object(expanded.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn expand_text(text: &str, get: &dyn Fn(&str) -> Result<String, VarError>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let wrong = || Error::new(Kind::InvalidConfig, "The config has a ${env: without a name and a } after it; write ${env:NAME}.");
        let (name, after) = after.split_once('}').ok_or_else(wrong)?;
        // The system takes neither of them in a name.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(wrong());
        }
        out += before;
        out += &get(name).map_err(|e| missing(name, &e))?;
        rest = after;
    }
    out += rest;
    Ok(out)
}

fn missing(name: &str, e: &VarError) -> Error {
    let what = match e {
        VarError::NotPresent => "is not set; set it",
        VarError::NotUnicode(_) => "is not UTF-8; correct it",
    };
    Error::new(
        Kind::InvalidConfig,
        format!("The environment variable {name}, which the plugin's config names, {what}, or take it out of the config."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn get(name: &str) -> Result<String, VarError> {
        match name {
            "A" => Ok("one".into()),
            "EMPTY" => Ok(String::new()),
            "NESTED" => Ok("${env:A}".into()),
            "BYTES" => Err(VarError::NotUnicode("x".into())),
            _ => Err(VarError::NotPresent),
        }
    }

    #[test]
    fn texts_are_expanded_wherever_they_stand() {
        let given = json!({"a": "${env:A}", "${env:A}": ["x ${env:A} y ${env:A}", 7, null], "b": {"c": "${env:EMPTY}", "d": "$A ${A}"}, "n": "${env:NESTED}"});
        let expanded = json!({"a": "one", "${env:A}": ["x one y one", 7, null], "b": {"c": "", "d": "$A ${A}"}, "n": "${env:A}"});
        assert_eq!(with(&given, &get).unwrap(), expanded);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, named) in [("${env:NOPE}", "NOPE"), ("${env:BYTES}", "BYTES"), ("${env:A", "${env:NAME}"), ("${env:}", "${env:NAME}")] {
            let error = with(&json!([text]), &get).unwrap_err();
            assert_eq!((error.kind(), error.message().contains(named)), (Kind::InvalidConfig, true), "{error}");
        }
    }
}
