//! The default answer of `GetConfig`: from the plugin's own config.

use serde_json::Value;

/// The value of `key` in `config`: a string as it is, any other JSON as compact text, none if it is missing.
pub fn lookup(config: &Value, key: &str) -> Option<Vec<u8>> {
    match config.get(key)? {
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_bare_and_the_rest_is_json() {
        let config = serde_json::json!({"s": "a", "n": 1, "o": {"x": [true]}, "null": null});
        assert_eq!(lookup(&config, "s").unwrap(), b"a");
        assert_eq!(lookup(&config, "o").unwrap(), br#"{"x":[true]}"#);
        assert_eq!(lookup(&config, "null").unwrap(), b"null");
        assert_eq!(lookup(&config, "missing"), None);
        assert_eq!(lookup(&Value::Null, "s"), None);
    }
}
