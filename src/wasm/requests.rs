//! The JSON that goes through host calls: HTTP requests and responses, and the fields of a log record.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::{Caller, HttpRequest, HttpResponse};

/// The most bytes of a log record's fields, and the most headers of a request: what they become on the host is larger.
const FIELDS_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 1024;

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Serialize)]
struct Response<'a> {
    status: i32,
    headers: BTreeMap<&'a str, String>,
    body: String,
}

/// Performs a request in JSON and answers with a response in JSON.
pub(super) fn http(caller: &Caller<'_>, request: &str) -> Result<Option<Vec<u8>>> {
    let max = caller.context.grants().result_size;
    if request.len() as u64 > max {
        let text = format!("The HTTP request has {} bytes; the policy grants {max} (result_size).", request.len());
        return Err(Error::new(Kind::PermissionDenied, text));
    }
    let request: Request = serde_json::from_str(request).map_err(|e| invalid(format!("The HTTP request is not the JSON of one: {e}.")))?;
    let headers = request.headers.unwrap_or_default();
    if headers.len() > HEADERS_MAX {
        return Err(invalid(format!("The HTTP request has {} headers; {HEADERS_MAX} is the most.", headers.len())));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let body = decoded(request.body.as_deref().unwrap_or_default())?;
    let method = request.method.as_deref().filter(|method| !method.is_empty()).unwrap_or("GET");
    let response = caller.http_request(&HttpRequest { method, url: &request.url, headers: &headers, body: &body })?;
    Ok(Some(rendered(&response)?))
}

fn decoded(body: &str) -> Result<Vec<u8>> {
    let body = body.trim_end_matches('=');
    STANDARD_NO_PAD.decode(body).map_err(|e| invalid(format!("The body of the HTTP request is not base64: {e}.")))
}

/// Several headers of one name become one value, separated as HTTP has it.
fn rendered(response: &HttpResponse) -> Result<Vec<u8>> {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &response.headers {
        let joined = headers.entry(name).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value);
    }
    let response = Response { status: response.status, headers, body: STANDARD.encode(&response.body) };
    serde_json::to_vec(&response).map_err(|e| Error::new(Kind::Internal, format!("The HTTP response could not be written as JSON: {e}.")))
}

/// The fields of a log record: a JSON object of strings, in its order; other values as their JSON text.
pub(super) fn fields(json: &[u8]) -> Result<Vec<(String, String)>> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    if json.len() > FIELDS_MAX {
        return Err(invalid(format!("The fields of a log record have {} bytes; {FIELDS_MAX} is the most.", json.len())));
    }
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|e| invalid(format!("The fields of a log record must be a JSON object of strings: {e}.")))?;
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(fields.into_iter().map(|(name, value)| (name, text(value))).collect())
}

#[cold]
fn invalid(text: String) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_written_as_flowbot_writes_it() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![header("Set-Cookie", "a"), header("Set-Cookie", "b"), header("A", "1")];
        let response = HttpResponse { status: 200, headers, body: b"hi?>".to_vec() };
        let text = String::from_utf8(rendered(&response).unwrap()).unwrap();
        assert_eq!(text, r#"{"status":200,"headers":{"A":"1","Set-Cookie":"a, b"},"body":"aGk/Pg=="}"#);
    }

    #[test]
    fn bodies_are_base64_padded_or_not() {
        assert_eq!(decoded("aGk/Pg==").unwrap(), b"hi?>");
        assert_eq!(decoded("aGk/Pg").unwrap(), b"hi?>");
        assert_eq!(decoded("").unwrap(), b"");
        assert_eq!(decoded("*").unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn fields_keep_their_order() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields(br#"{"b":"x","a":1}"#).unwrap(), [pair("b", "x"), pair("a", "1")]);
        assert_eq!(fields(b"").unwrap(), []);
        fields(b"[]").unwrap_err();
    }
}
