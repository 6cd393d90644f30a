//! The embedded HTTP client: where it goes and where not, what it hands on, and when it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the tests of the wasm runner use the rest of its support")]

#[path = "http/addresses.rs"]
mod addresses;
#[path = "http/answers.rs"]
mod answers;
#[path = "http/lookups.rs"]
mod lookups;
#[path = "http/redirects.rs"]
mod redirects;
#[path = "http/server.rs"]
mod server;
#[path = "wasm/support.rs"]
mod support;
#[path = "http/tls.rs"]
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flowplug::call::{Cancel, Chain, Deadline};
use flowplug::error::{Error, Kind, Result};
use flowplug::host::http::Resolve;
use flowplug::host::http::client::HttpClient;
use flowplug::host::{Caller, HttpRequest, HttpResponse, PluginContext};
use flowplug::manifest::{HostPattern, IpRange};
use flowplug::policy::Grants;
use support::{LONG, TestHost, grants};

/// Names and what they lead to: each look-up takes the next of its answers, the last for ever.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut known = self.known.lock().unwrap();
        let answers = known.get_mut(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

/// A host's client, and plugins that use it.
pub(crate) struct Web {
    client: HttpClient,
    pub(crate) names: Arc<Names>,
    _runtime: tokio::runtime::Runtime,
}

impl Web {
    pub(crate) fn new() -> Self {
        Self::trusting(None)
    }

    pub(crate) fn trusting(ca_file: Option<&Path>) -> Self {
        let names = Arc::new(Names::default());
        Self::resolving(ca_file, names.clone(), names)
    }

    pub(crate) fn resolving(ca_file: Option<&Path>, names: Arc<Names>, resolver: Arc<dyn Resolve>) -> Self {
        let runtime = flowplug::runtime::shared(2).unwrap();
        let client = HttpClient::with_resolver(runtime.handle().clone(), ca_file, resolver).unwrap();
        Web { client, names, _runtime: runtime }
    }

    /// What a name leads to, look-up by look-up.
    pub(crate) fn name(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|one| one.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.names.known.lock().unwrap().insert(name.to_owned(), answers);
    }

    pub(crate) fn ask(&self, plugin: &Arc<PluginContext>, request: &HttpRequest<'_>) -> Result<HttpResponse> {
        self.ask_within(plugin, request, &Deadline::after(LONG), None)
    }

    pub(crate) fn ask_within(
        &self,
        plugin: &Arc<PluginContext>,
        request: &HttpRequest<'_>,
        deadline: &Deadline,
        cancel: Option<&Cancel>,
    ) -> Result<HttpResponse> {
        let caller = Caller { context: plugin, function: "f", tag: 0, traceparent: "", deadline, cancel, chain: Chain::default() };
        self.client.request(&caller, request)
    }

    pub(crate) fn get(&self, plugin: &Arc<PluginContext>, url: &str) -> Result<HttpResponse> {
        self.ask(plugin, &HttpRequest { method: "GET", url, headers: &[], body: b"" })
    }
}

/// A plugin that may reach these hosts, at these addresses beside the public ones.
pub(crate) fn plugin(hosts: &[&str], private: &[&str]) -> Arc<PluginContext> {
    plugin_with(hosts, private, |_| ())
}

/// The same, of a host that remembers.
pub(crate) fn plugin_of(host: &Arc<TestHost>, hosts: &[&str], private: &[&str]) -> Arc<PluginContext> {
    PluginContext::new("p", granted(hosts, private), host.clone())
}

pub(crate) fn plugin_with(hosts: &[&str], private: &[&str], change: impl FnOnce(&mut Grants)) -> Arc<PluginContext> {
    let mut granted = granted(hosts, private);
    change(&mut granted);
    PluginContext::new("p", granted, Arc::new(TestHost::default()))
}

fn granted(hosts: &[&str], private: &[&str]) -> Grants {
    let mut granted = grants();
    granted.http = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    granted.http_private = private.iter().map(|range| IpRange::parse(range).unwrap()).collect();
    granted
}

/// What the policy or the manifest did not grant: the rule that the error names.
pub(crate) fn denial(error: &Error) -> &str {
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    error.details()["denied"]["rule"].as_str().unwrap()
}

pub(crate) const SHORT: Duration = Duration::from_millis(200);
