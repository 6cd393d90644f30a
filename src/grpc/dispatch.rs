//! From a function and its JSON parameters to a request, and from a reply to JSON.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result, clean};
use crate::grpc::pb::flowbot as pb;

/// A function that a plugin's process can be called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `Command`
    Command,
    /// `Form`
    Form,
    /// `Rules`
    Rules,
    /// `Help`
    Help,
    /// `Bootstrap`
    Bootstrap,
    /// `AbilityCall`
    AbilityCall,
    /// `WebhookConvert`
    WebhookConvert,
    /// `OAuthCallback`
    OAuthCallback,
    /// `AbilityCall` with the operation `oauth_authorize`: the protocol has no call of its own for it.
    OAuthAuthorize,
}

impl Function {
    /// By its name in the dispatch table; none for what this protocol has no call for.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        FUNCTIONS.into_iter().find_map(|(known, function)| (known == name).then_some(function))
    }

    /// By its [`number`](Self::number).
    pub fn from_number(number: usize) -> Option<Self> {
        FUNCTIONS.get(number).map(|(_, function)| *function)
    }

    /// Its place in the dispatch table.
    pub fn number(self) -> usize {
        self as usize
    }
}

/// The dispatch table, in the order of [`Function`].
const FUNCTIONS: [(&str, Function); 9] = [
    ("command", Function::Command),
    ("form", Function::Form),
    ("rules", Function::Rules),
    ("help", Function::Help),
    ("bootstrap", Function::Bootstrap),
    ("ability_call", Function::AbilityCall),
    ("webhook_convert", Function::WebhookConvert),
    ("oauth_callback", Function::OAuthCallback),
    ("oauth_authorize", Function::OAuthAuthorize),
];

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Init(pb::InitRequest),
    IsReady,
    Bootstrap,
    Rules,
    Help,
    Command(pb::CommandRequest),
    Form(pb::FormRequest),
    AbilityCall(pb::CallRequest),
    WebhookConvert(pb::WebhookConvertRequest),
    OAuthCallback(pb::OAuthCallbackRequest),
}

/// What came back: JSON text (empty for `null`), and the plugin's own error (empty for none).
pub(super) type Reply = (String, String);

impl Request {
    /// The request of a call.
    pub(super) fn new(function: Function, params: &[u8]) -> Result<Self> {
        Ok(match function {
            Function::Bootstrap => Request::Bootstrap,
            Function::Rules => Request::Rules,
            Function::Help => Request::Help,
            Function::Command => {
                let p: Command<'_> = read(params)?;
                Request::Command(pb::CommandRequest { context: json_text(p.context), content: json_text(p.content) })
            }
            Function::Form => {
                let p: Form<'_> = read(params)?;
                let values =
                    p.values.unwrap_or_default().into_iter().map(|(name, value)| (name, form_value(value))).collect::<HashMap<_, _>>();
                Request::Form(pb::FormRequest { context: json_text(p.context), values })
            }
            Function::AbilityCall => {
                let p: Ability<'_> = read(params)?;
                let Some(operation) = p.operation.filter(|operation| !operation.is_empty()) else {
                    return Err(invalid("ability_call needs the name of an operation: {\"operation\": \"list\", \"params\": {}}."));
                };
                Request::AbilityCall(pb::CallRequest { operation, params: json_text(p.params) })
            }
            Function::OAuthAuthorize => {
                let params = if params.is_empty() { None } else { Some(read::<&RawValue>(params)?) };
                Request::AbilityCall(pb::CallRequest { operation: "oauth_authorize".to_owned(), params: json_text(params) })
            }
            Function::WebhookConvert => {
                let p: Webhook = read(params)?;
                let payload = STANDARD
                    .decode(p.payload.unwrap_or_default())
                    .map_err(|e| invalid(&format!("The payload of webhook_convert is not base64: {e}.")))?;
                Request::WebhookConvert(pb::WebhookConvertRequest { payload })
            }
            Function::OAuthCallback => {
                let p: OAuth = read(params)?;
                Request::OAuthCallback(pb::OAuthCallbackRequest { state: p.state.unwrap_or_default(), code: p.code.unwrap_or_default() })
            }
        })
    }

    /// The first call of a process's life; `host_broker_id` is the host service's number at the broker.
    pub(super) fn init(config: &str, host_broker_id: u32) -> Result<Self> {
        let config = if config.is_empty() { None } else { Some(read::<&RawValue>(config.as_bytes())?) };
        Ok(Request::Init(pb::InitRequest { config: json_text(config), host_broker_id }))
    }

    /// Its size on the wire, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Request::IsReady | Request::Bootstrap | Request::Rules | Request::Help => 0,
            Request::Init(m) => m.encoded_len(),
            Request::Command(m) => m.encoded_len(),
            Request::Form(m) => m.encoded_len(),
            Request::AbilityCall(m) => m.encoded_len(),
            Request::WebhookConvert(m) => m.encoded_len(),
            Request::OAuthCallback(m) => m.encoded_len(),
        }
    }
}

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    values: Option<BTreeMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
struct Ability<'a> {
    operation: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Webhook {
    payload: Option<String>,
}

#[derive(Deserialize)]
struct OAuth {
    state: Option<String>,
    code: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(params: &'a [u8]) -> Result<T> {
    let params = match params.trim_ascii() {
        b"" | b"null" => b"{}".as_slice(),
        other => other,
    };
    serde_json::from_slice(params).map_err(|e| invalid(&format!("The parameters are not what the function takes: {e}.")))
}

fn invalid(text: &str) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

/// A field that holds JSON: a string is taken as it is, any other value as compact text, null and absent are empty.
fn json_text(value: Option<&RawValue>) -> String {
    match value.map(RawValue::get) {
        None | Some("null") => String::new(),
        Some(text) => string_or_compact(text),
    }
}

/// A field of a form: a string as it is, any other value as its JSON text.
fn form_value(value: &RawValue) -> String {
    string_or_compact(value.get())
}

fn string_or_compact(text: &str) -> String {
    if text.starts_with('"')
        && let Ok(string) = serde_json::from_str(text)
    {
        return string;
    }
    compact(text)
}

/// JSON without the white space between its tokens; the tokens stay as they were written, numbers to the last digit.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut from, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
        } else if byte.is_ascii_whitespace() {
            out.push_str(json.get(from..at).unwrap_or_default());
            from = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.push_str(json.get(from..).unwrap_or_default());
    out
}

/// The answer of a call, checked: the plugin's own error, or JSON byte for byte as it came. `trusted`: the caller parses it anyway.
pub(super) fn answer(reply: Reply, trusted: bool) -> Result<Vec<u8>> {
    let (json, error) = reply;
    if !error.is_empty() {
        return Err(
            Error::new(Kind::Plugin, format!("The plugin answered with an error: {}", clean(&error, 200))).with_plugin_message(&error)
        );
    }
    if json.is_empty() {
        return Ok(b"null".to_vec());
    }
    if !trusted && let Err(e) = serde_json::from_str::<&RawValue>(&json) {
        let text = format!("The plugin's answer is not JSON ({e}): {}", clean(&json, 200));
        return Err(Error::new(Kind::InvalidResponse, text));
    }
    Ok(json.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(params: &str) -> (String, String) {
        match Request::new(Function::Command, params.as_bytes()).unwrap() {
            Request::Command(m) => (m.context, m.content),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_fields_take_strings_verbatim_and_the_rest_compact() {
        let text = |s: &str| s.to_owned();
        assert_eq!(
            command(r#"{"context": "{\"a\": 1}", "content": {"b" : [1.10, "x y\" z", 1e400] } }"#),
            (text(r#"{"a": 1}"#), text(r#"{"b":[1.10,"x y\" z",1e400]}"#))
        );
        assert_eq!(command(r#"{"context": null, "more": 1}"#), (String::new(), String::new()));
        assert_eq!(command(""), (String::new(), String::new()));
        assert_eq!(command(" null "), (String::new(), String::new()));
        assert_eq!(compact(r#" { "a\\" : "b \" , c" , "d" : [ 1 , 2 ] } "#), r#"{"a\\":"b \" , c","d":[1,2]}"#);
    }

    #[test]
    fn every_function_has_its_request() {
        let made = |function, params: &str| Request::new(function, params.as_bytes());
        match made(Function::Form, r#"{"values": {"a": "x", "b": 1, "c": {"d": [ ]}, "e": null}}"#).unwrap() {
            Request::Form(m) => {
                let mut values: Vec<_> = m.values.into_iter().collect();
                values.sort();
                assert_eq!(
                    values,
                    [("a", "x"), ("b", "1"), ("c", r#"{"d":[]}"#), ("e", "null")].map(|(k, v)| (k.to_owned(), v.to_owned()))
                );
            }
            other => panic!("{other:?}"),
        }
        match made(Function::WebhookConvert, r#"{"payload": "AAH/"}"#).unwrap() {
            Request::WebhookConvert(m) => assert_eq!(m.payload, [0, 1, 255]),
            other => panic!("{other:?}"),
        }
        match made(Function::OAuthAuthorize, r#"{ "state": "s" }"#).unwrap() {
            Request::AbilityCall(m) => assert_eq!((m.operation.as_str(), m.params.as_str()), ("oauth_authorize", r#"{"state":"s"}"#)),
            other => panic!("{other:?}"),
        }
        for (function, params) in [
            (Function::AbilityCall, "{}"),
            (Function::AbilityCall, r#"{"operation": 1}"#),
            (Function::Command, "[1]"),
            (Function::Command, "{"),
            (Function::Command, "\u{feff}{}"),
            (Function::WebhookConvert, r#"{"payload": "?"}"#),
            (Function::Form, r#"{"values": []}"#),
        ] {
            assert_eq!(made(function, params).unwrap_err().kind(), Kind::InvalidArgument, "{params}");
        }
    }

    #[test]
    fn a_function_is_found_by_its_number() {
        for (name, function) in FUNCTIONS {
            assert_eq!(Function::from_number(function.number()), Some(function));
            assert_eq!(Function::from_name(name), Some(function));
        }
        assert_eq!((Function::from_number(FUNCTIONS.len()), Function::from_name("input")), (None, None));
    }

    #[test]
    fn answers_are_checked() {
        assert_eq!(answer((String::new(), String::new()), false).unwrap(), b"null");
        assert_eq!(answer((r#" {"a": 1.10}"#.to_owned(), String::new()), false).unwrap(), br#" {"a": 1.10}"#);
        let error = answer(("not json\u{1b}".to_owned(), String::new()), false).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidResponse);
        assert!(error.message().contains("not json\u{fffd}"), "{error}");
        let error = answer((String::new(), "no such bookmark".to_owned()), false).unwrap_err();
        assert_eq!((error.kind(), error.plugin_message()), (Kind::Plugin, "no such bookmark"));
    }
}
