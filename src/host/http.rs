//! The allowlist of `HTTPRequest`: what of a request is checked before the host hears of it, and again for each redirect.

use url::Url;

use crate::error::{Error, Kind, Result, clean};
use crate::host::{PluginContext, audit};

pub(in crate::host) use connect::Lookups;
pub use connect::Resolve;

mod address;
pub mod client;
mod connect;
mod exchange;
mod roots;

/// The longest URL that is taken, in bytes.
const URL_MAX: usize = 8 * 1024;

/// Refuses a URL that is not plain http or https, carries a user name, or whose host and port no granted pattern names.
/// Returns it in its one normal form: what reads it after must read the host that was checked.
pub fn check_url(context: &PluginContext, url: &str) -> Result<Url> {
    // Parsers differ in what they make of these: one sees the host before a backslash, another the one behind.
    if url.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f) {
        return Err(Error::new(Kind::InvalidArgument, "The URL holds white space, a control character or a backslash; percent-encode it."));
    }
    if url.len() > URL_MAX {
        return Err(Error::new(Kind::InvalidArgument, format!("The URL has {} bytes; {URL_MAX} is the most.", url.len())));
    }
    let shown = clean(url, 200);
    let parsed = Url::parse(url).map_err(|e| Error::new(Kind::InvalidArgument, format!("{shown:?} is not a URL: {e}.")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(Error::new(
            Kind::PermissionDenied,
            format!("{shown:?} has the scheme {:?}; only http and https are allowed.", parsed.scheme()),
        )
        .with_detail("denied", audit::denied("http", &shown, "only http and https", String::new())));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let text = "The URL carries a user name or password; send an Authorization header instead.";
        let target = parsed.host_str().unwrap_or_default();
        let denied = audit::denied("http", target, "no user name or password in a URL", String::new());
        return Err(Error::new(Kind::PermissionDenied, text).with_detail("denied", denied));
    }
    let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
        return Err(Error::new(Kind::InvalidArgument, format!("{shown:?} names no host.")));
    };
    if context.grants().http.iter().any(|pattern| pattern.matches(host, port)) {
        return Ok(parsed);
    }
    Err(denied(context, host, port))
}

/// A response past the policy's bound.
#[cold]
pub(super) fn too_large(url: &str, length: u64, max: u64) -> Error {
    let grant = "http_max_response, here and in the manifest's permissions".to_owned();
    Error::new(
        Kind::PermissionDenied,
        format!("The HTTP response of {length} bytes or more is larger than the {max} bytes allowed (permissions.http_max_response)."),
    )
    .with_detail("denied", audit::denied("http", url, "http_max_response", grant))
}

fn denied(context: &PluginContext, host: &str, port: u16) -> Error {
    let target = format!("{host}:{port}");
    Error::new(
        Kind::PermissionDenied,
        format!(
            "The plugin {:?} may not reach {target:?}: neither its manifest (permissions.http) nor the policy's grant names this host. Add {host:?} to both.",
            context.identity()
        ),
    )
    .with_detail("denied", audit::denied("http", &target, "permissions.http", format!("http: [{host:?}]")))
}

/// Refuses a method that is not a token of HTTP, or that would make a tunnel.
pub fn check_method(method: &str) -> Result<()> {
    let token = !method.is_empty() && method.len() <= 32 && method.bytes().all(is_token);
    if !token || method.eq_ignore_ascii_case("CONNECT") || method.eq_ignore_ascii_case("TRACE") {
        return Err(Error::new(Kind::InvalidArgument, format!("{:?} is not a method that a plugin may use.", clean(method, 40))));
    }
    Ok(())
}

/// Refuses names and values that would not stand on a header line of their own, `Host`, which is the URL's, and what says
/// where the request ends, unless it is right: what follows would be read as another request, for a host of its choice.
pub fn check_headers(headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Error::new(Kind::InvalidArgument, format!("{:?} is not a header name.", clean(name, 80))));
        }
        if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(Error::new(Kind::InvalidArgument, format!("The value of the header {name:?} contains a line break or NUL.")));
        }
        if name.eq_ignore_ascii_case("host") {
            let text = "A plugin may not set the Host header: it would reach a host that was not checked.";
            return Err(header_denied(name, value, text.to_owned(), "no Host header"));
        }
        if frames(name, value, body) {
            let shown = clean(value, 80);
            let text =
                format!("A plugin may not set the header {name} to {shown:?}: the HTTP client says where a request ends. Leave it out.");
            return Err(header_denied(name, value, text, "no header that says where a request ends"));
        }
    }
    Ok(())
}

#[cold]
fn header_denied(name: &str, value: &str, text: String, rule: &str) -> Error {
    let target = format!("{name}: {}", clean(value, 200));
    Error::new(Kind::PermissionDenied, text).with_detail("denied", audit::denied("http", &target, rule, String::new()))
}

/// Whether a header would say of the connection, or of the body's length, what the client does not.
fn frames(name: &str, value: &str, body: &[u8]) -> bool {
    let is = |one: &str| name.eq_ignore_ascii_case(one);
    if is("content-length") {
        return value != body.len().to_string();
    }
    if is("connection") {
        return !["close", "keep-alive"].iter().any(|usual| value.eq_ignore_ascii_case(usual));
    }
    ["transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"].into_iter().any(is)
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_headers_that_smuggle_are_refused() {
        for good in ["GET", "POST", "PATCH", "delete"] {
            check_method(good).unwrap();
        }
        for bad in ["", "GET /", "CONNECT", "trace", "GE\nT"] {
            assert_eq!(check_method(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
        check_headers(&[("X-A", "b c")], b"").unwrap();
        for bad in [("", "x"), ("a b", "x"), ("a", "x\r\nHost: y"), ("hOst", "x")] {
            check_headers(&[bad], b"").unwrap_err();
        }
    }
}
