//! Every plugin there is a counterpart of, by how it speaks and how it asks its host: Go with the SDK and with go-plugin alone,
//! Python on grpcio, Rust on tonic, each as it is and with TLS.

use std::fmt::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flowplug::call::{Call, Deadline};
use flowplug::grpc::Plugin;
use flowplug::manifest::Manifest;
use serde_json::{Value, json};

use crate::hostile;
use crate::support::{Bench, SOON, built_with, comes_true, order, soon};

/// For a manifest's `grpc` section.
pub const REQUIRED: &str = "  tls: required\n";

/// How a plugin is told to ask its host.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// `{"do": "host", ...}`, by the token, with the call's id
    Sdk,
    /// `{"ask": ...}`, by the broker, without it
    Broker,
    /// `{"ask": ...}`, by the token, with the call's id
    Token,
}

pub struct Counterpart {
    /// For people, and for the identity of its plugin.
    pub name: &'static str,
    pub way: Way,
    pub tls: bool,
}

pub fn all() -> impl Iterator<Item = Counterpart> {
    let names = [("go-sdk", Way::Sdk), ("go-plugin", Way::Broker), ("grpcio", Way::Sdk), ("tonic", Way::Token)];
    names.into_iter().flat_map(|(name, way)| [false, true].map(|tls| Counterpart { name, way, tls }))
}

/// The plugin on tonic, with more in its `grpc` section.
pub fn tonic(more: &str) -> Manifest {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).unwrap().join("examples");
    assert!(folder.join("tonic-plugin").exists(), "it is not there: run `cargo build --example tonic-plugin`");
    let text = format!("name: tonic\nruntime: grpc\ngrpc: {{ binary: ./tonic-plugin{more} }}\n");
    Manifest::parse(text.as_bytes(), &folder, true).unwrap()
}

impl Counterpart {
    pub fn manifest(&self) -> Manifest {
        let built = |name| built_with(name, if self.tls { REQUIRED } else { "" });
        match self.name {
            "go-sdk" => built("fixture-grpc-go"),
            "go-plugin" => built("fixture-grpc-plain"),
            "grpcio" => built("fixture-grpc-python"),
            _ => tonic(if self.tls { ", tls: required" } else { "" }),
        }
    }

    /// Its name and whether TLS is on, short enough for a folder of sockets.
    pub fn title(&self) -> String {
        format!("{}{}", self.name, if self.tls { "-tls" } else { "" })
    }

    /// Makes the plugin ask its host: the answer, `null` where there is none, or the text of the error.
    pub fn ask(&self, plugin: &Plugin, function: &str, args: Value, how: &Call) -> Result<Value, String> {
        if self.way != Way::Sdk {
            let mut content = args;
            content["ask"] = function.into();
            return order(plugin, content, how).map_err(|e| e.to_string());
        }
        let mut args = args;
        if function == "emit_event" {
            args = json!({"event_type": "sdk.asked", "source": "sdk", "data": serde_json::from_str::<Value>(args["value"].as_str().unwrap()).unwrap()});
        } else if let Some(bytes) = args["bytes"].as_u64() {
            args["value"] = "x".repeat(usize::try_from(bytes).unwrap()).into();
        }
        let answer = order(plugin, json!({"do": "host", "fn": function, "args": args}), how).map_err(|e| e.to_string())?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["value"].clone()),
        }
    }
}

/// Runs a plugin's program and keeps the first line that it prints.
fn recorded(name: &str, manifest: &Manifest, tls: bool) -> (hostile::Plugin, PathBuf) {
    let program = manifest.base_dir().join(&manifest.grpc.as_ref().unwrap().binary);
    let text = format!("\"{}\" | tee \"$(dirname \"$0\")/said\"", program.display());
    let plugin = hostile::Plugin::new(name, &hostile::script(&text), if tls { REQUIRED } else { "" });
    let said = plugin.manifest.base_dir().join("said");
    (plugin, said)
}

/// The kind of key in a certificate, by the number of its curve.
fn curve(der: &[u8]) -> &'static str {
    let has = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    match () {
        () if has(&[0x2b, 0x81, 0x04, 0x00, 0x23]) => "P-521",
        () if has(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]) => "P-256",
        () => "another key",
    }
}

/// `cargo test --test grpc the_handshake_of -- --nocapture` prints what docs/evidence.md shows.
#[test]
fn the_handshake_of_each_counterpart_is_taken() {
    let mut table = String::new();
    for counterpart in all() {
        let title = counterpart.title();
        let bench = Bench::new(&format!("line-{title}"));
        let (script, said) = recorded(&format!("line-{title}"), &counterpart.manifest(), counterpart.tls);
        let (plugin, _exits) = bench.start_manifest(&script.manifest, "null");
        assert_eq!(order(&plugin, json!({"do": "echo", "n": 1}), &soon()).unwrap()["n"], 1);
        // The host has the line before the file does.
        let line = || std::fs::read_to_string(&said).unwrap();
        assert!(comes_true(|| line().contains('\n')));
        let said = line();
        let fields: Vec<&str> = said.lines().next().unwrap().split('|').collect();
        assert_eq!((&fields[..3], fields[4]), (&["1", "1", "unix"][..], "grpc"), "{title}: {said}");
        let certificate = fields.get(5).copied().unwrap_or_default();
        assert_eq!(!certificate.is_empty(), counterpart.tls, "{title}: {said}");
        let (folder, socket) = fields[3].rsplit_once('/').unwrap();
        assert!(folder.starts_with(bench.sockets.to_str().unwrap()), "{title}: {said}");
        let shown = if certificate.is_empty() {
            String::new()
        } else {
            let der = STANDARD_NO_PAD.decode(certificate.trim_end_matches('=')).unwrap();
            let padding = if certificate.ends_with('=') { ", padded" } else { "" };
            format!("{}… ({} of {} bytes{padding})", &certificate[..12], curve(&der), der.len())
        };
        writeln!(table, "| {title} | `1\\|1\\|unix\\|…/{socket}\\|grpc\\|{shown}` |").unwrap();
        plugin.stop(&Deadline::after(SOON));
        assert!(bench.left_behind().is_empty());
    }
    println!("\n{table}");
    assert!(table.contains("go-plugin-tls") && table.contains("P-521") && table.contains("P-256"), "{table}");
}
