//! One request and its answer, and where a redirect leads: the rules are those of the fetch standard, and stricter in that a
//! redirect never leaves https.

use std::error::Error as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use url::Url;

use crate::error::{Error, Kind, Result, clean};
use crate::host::http::client::Client;
use crate::host::http::connect::NotPublic;
use crate::host::http::{check_url, too_large};
use crate::host::{HttpRequest, HttpResponse, PluginContext, audit};

/// What a plugin asks for, as it is on one of the way's servers.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// Said of the connection or of the body's length, which are ours to say, and not the server's to the plugin: the body has
/// been put together.
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What tells who asks: not for the eyes of another server than it was meant for.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// What describes a body, and goes with it.
const OF_THE_BODY: [HeaderName; 4] = [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LOCATION, header::CONTENT_TYPE];

impl Hop {
    /// The request as the plugin made it, its method and headers checked already.
    pub(super) fn first(plugin: &PluginContext, request: &HttpRequest<'_>) -> Result<Self> {
        let url = check_url(plugin, request.url)?;
        let method = request.method.to_ascii_uppercase();
        let usual = matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH");
        let method = Method::from_bytes(if usual { method.as_bytes() } else { request.method.as_bytes() });
        let method = method.map_err(|e| invalid(&format!("The method is not one of HTTP: {e}.")))?;
        let mut headers = HeaderMap::new();
        for (name, value) in request.headers {
            let named = HeaderName::from_bytes(name.as_bytes()).map_err(|e| invalid(&format!("{:?}: {e}.", clean(name, 80))))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| invalid(&format!("The value of the header {:?} holds a control character.", clean(name, 80))))?;
            if named == header::CONNECTION || (named != header::CONTENT_LENGTH && !OF_THE_CONNECTION.contains(&named)) {
                headers.append(named, value);
            }
        }
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(concat!("flowplug/", env!("CARGO_PKG_VERSION"))));
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        Ok(Hop { url, method, headers, body: Bytes::copy_from_slice(request.body) })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Scheme, host and port: a connection's other end.
    pub(super) fn server(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Where an answer leads on to; none if it is the last.
    ///
    /// Errors: `permission_denied` if that is not allowed.
    pub(super) fn redirected(&self, plugin: &PluginContext, answer: &Answer) -> Result<Option<Self>> {
        if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = answer.headers.get(header::LOCATION) else { return Ok(None) };
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let mut url = self.url.join(&location).map_err(|e| failed(&self.server(), &format!("it redirects to what is no URL ({e})")))?;
        if url.fragment().is_none() {
            url.set_fragment(self.url.fragment());
        }
        if self.is_secure() && url.scheme() == "http" {
            let target = clean(url.as_str(), 200);
            return Err(Error::new(
                Kind::PermissionDenied,
                format!("{:?} redirects from https to http, which is not followed.", self.server()),
            )
            .with_detail("denied", audit::denied("http", &target, "a redirect never leaves https", String::new())));
        }
        let mut next = Hop { url: check_url(plugin, url.as_str())?, ..self.clone() };
        let becomes_get = match answer.status {
            StatusCode::SEE_OTHER => self.method != Method::GET && self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = Bytes::new();
            OF_THE_BODY.iter().for_each(|name| drop(next.headers.remove(name)));
        }
        if next.url.origin() != self.url.origin() {
            CREDENTIALS.iter().for_each(|name| drop(next.headers.remove(name)));
        }
        plugin.audit_reached(&next.url);
        Ok(Some(next))
    }

    fn request(&self) -> Result<http::Request<Full<Bytes>>> {
        let mut url = self.url.clone();
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().map_err(|e| invalid(&format!("{:?} cannot be asked for: {e}.", clean(url.as_str(), 200))))?;
        // Whom the connector connects to is whom the allowlist was asked about.
        if uri.host() != url.host_str() || uri.port_u16() != url.port() || uri.scheme_str() != Some(url.scheme()) {
            return Err(invalid(&format!("{:?} can be read in two ways.", clean(url.as_str(), 200))));
        }
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.uri_mut() = uri;
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn into_response(self) -> HttpResponse {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let kept = self.headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(name));
        let headers = kept.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        HttpResponse { status: i32::from(self.status.as_u16()), headers, body: self.body }
    }
}

/// Sends a request and reads its answer, of at most `max` bytes.
pub(super) async fn exchange(client: Client, hop: Hop, max: u64) -> Result<Answer> {
    let server = hop.server();
    let response = match client.request(hop.request()?).await {
        // A connection that was kept may be closed by the server just as it is used.
        Err(e) if !e.is_connect() && hop.method.is_idempotent() => client.request(hop.request()?).await,
        answered => answered,
    };
    let response = response.map_err(|e| explained(&hop, &e))?;
    let (head, mut body) = response.into_parts();
    if head.status.is_informational() {
        return Err(failed(&server, &format!("it answered {}, which is no answer", head.status)));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| failed(&server, &chain(&e)))?;
        let Some(data) = frame.data_ref() else { continue };
        let length = (bytes.len() + data.len()) as u64;
        if length > max {
            return Err(too_large(&server, length, max));
        }
        bytes.extend_from_slice(data);
    }
    Ok(Answer { status: head.status, headers: head.headers, body: bytes })
}

fn explained(hop: &Hop, error: &legacy::Error) -> Error {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(NotPublic(address)) = cause.downcast_ref() {
            return not_public(hop, *address);
        }
        next = cause.source();
    }
    failed(&hop.server(), &chain(error))
}

fn not_public(hop: &Hop, address: IpAddr) -> Error {
    let (server, range) = (hop.server(), format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }));
    Error::new(
        Kind::PermissionDenied,
        format!(
            "The plugin may not reach {server:?}: its address {address} is not a public one. The policy's line http_private: [{range:?}] would grant it."
        ),
    )
    .with_detail("denied", audit::denied("http", &server, "http_private", format!("http_private: [{range:?}]")))
}

fn failed(server: &str, why: &str) -> Error {
    Error::new(Kind::Io, format!("The HTTP request to {server:?} failed: {}.", clean(why, 300)))
}

fn invalid(why: &str) -> Error {
    Error::new(Kind::InvalidArgument, why)
}

/// What each error says, from the outermost in.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
