//! The one line by which a plugin says where it listens: `1|1|unix|<path>|grpc|<cert>|<mux>`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{Error, Kind, Result, clean};
use crate::grpc::folder::SOCKET_PATH_MAX;

/// What a plugin may print before its handshake, in bytes and in one line.
pub(super) const NOISE_MAX: usize = 256 * 1024;
pub(super) const LINE_MAX: usize = 16 * 1024;

/// A certificate field that is shorter is no certificate (go-plugin draws the line there too).
const CERTIFICATE_MIN: usize = 50;

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// What was asked of the plugin, and what is granted to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// The policy takes a plugin that listens on TCP without TLS.
    pub(super) tcp: bool,
    /// The manifest requires TLS.
    pub(super) tls: bool,
}

/// What the line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) address: Address,
    /// The certificate that the plugin will show, DER; there if and only if TLS was asked for.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Whether a line is meant as a handshake; anything else before it is noise.
pub(super) fn is_one(line: &str) -> bool {
    line.split_once('|').is_some_and(|(core, _)| !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the line.
pub(super) fn parse(line: &str, terms: Terms) -> Result<Handshake> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [core, app, network, address, rest @ ..] = fields.as_slice() else {
        return Err(failed(line, "it has fewer than the four fields core|app|network|address"));
    };
    if *core != "1" {
        return Err(failed(line, &format!("it speaks core protocol {core:?} of go-plugin; this host speaks 1")));
    }
    if *app != "1" {
        return Err(failed(line, &format!("it speaks version {app:?} of the plugin protocol; this host speaks 1 (ProtocolVersion)")));
    }
    match rest.first() {
        Some(&"grpc") => {}
        None | Some(&("" | "netrpc")) => {
            return Err(failed(line, "it serves netrpc; build it with GRPCServer set (plugin.DefaultGRPCServer in go-plugin)"));
        }
        Some(other) => return Err(failed(line, &format!("it serves the protocol {other:?}; this host speaks grpc"))),
    }
    let certificate = certificate(line, rest.get(1).copied().unwrap_or_default(), terms.tls)?;
    if rest.get(2).is_some_and(|mux| *mux == "true") {
        return Err(failed(line, "it multiplexes its connection, which was not asked of it"));
    }
    let address = match *network {
        "unix" => unix(line, address)?,
        "tcp" if terms.tcp || certificate.is_some() => {
            Address::Tcp(address.parse().map_err(|_| failed(line, "its TCP address is not of the form ip:port"))?)
        }
        "tcp" => {
            let text = "The plugin listens on TCP, where every user of the machine can reach it. Make it listen on a Unix socket (PLUGIN_UNIX_SOCKET_DIR), set grpc.tls: required in its manifest, or grant `tcp: true` in the policy.";
            return Err(Error::new(Kind::PermissionDenied, text).with_detail("handshake", clean(line, 200)));
        }
        other => return Err(failed(line, &format!("its network {other:?} is neither unix nor tcp"))),
    };
    Ok(Handshake { address, certificate })
}

/// The certificate, base64 with padding or without. Both sides must want TLS, or neither.
fn certificate(line: &str, field: &str, asked: bool) -> Result<Option<Vec<u8>>> {
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
    match (asked, field.len() > CERTIFICATE_MIN) {
        (false, false) => Ok(None),
        (true, true) => LENIENT.decode(field).map(Some).map_err(|e| failed(line, &format!("its certificate is not base64: {e}"))),
        (true, false) => Err(failed(
            line,
            "it has no certificate, and the manifest requires TLS (grpc.tls); build the plugin with what answers PLUGIN_CLIENT_CERT, as go-plugin does, or leave grpc.tls off",
        )),
        (false, true) => {
            Err(failed(line, "it has a certificate, and TLS was not asked of the plugin; set grpc.tls: required in its manifest"))
        }
    }
}

fn unix(line: &str, address: &str) -> Result<Address> {
    let path = Path::new(address);
    if !path.is_absolute() {
        return Err(failed(line, "its socket's path is not absolute"));
    }
    if address.len() > SOCKET_PATH_MAX || address.contains('\0') {
        return Err(failed(line, &format!("its socket's path has more than {SOCKET_PATH_MAX} bytes")));
    }
    Ok(Address::Unix(path.to_owned()))
}

fn failed(line: &str, why: &str) -> Error {
    Error::new(Kind::LoadFailed, format!("The plugin's handshake cannot be used: {why}.")).with_detail("handshake", clean(line, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_are_taken() {
        let path = Handshake { address: Address::Unix("/tmp/p".into()), certificate: None };
        for line in [
            "1|1|unix|/tmp/p|grpc",
            "1|1|unix|/tmp/p|grpc|",
            "1|1|unix|/tmp/p|grpc|short",
            "1|1|unix|/tmp/p|grpc||false",
            "1|1|unix|/tmp/p|grpc|||more|",
        ] {
            assert_eq!(parse(line, Terms::default()).unwrap(), path, "{line}");
        }
        let tcp = Address::Tcp("127.0.0.1:1234".parse().unwrap());
        assert_eq!(parse("1|1|tcp|127.0.0.1:1234|grpc", Terms { tcp: true, tls: false }).unwrap().address, tcp);
        for (padded, bytes) in [("=", 59), ("", 60), ("==", 61)] {
            let cert = base64::engine::general_purpose::STANDARD.encode(vec![7; bytes]);
            assert!(cert.ends_with(padded));
            for cert in [cert.as_str(), cert.trim_end_matches('=')] {
                let said = parse(&format!("1|1|tcp|127.0.0.1:1234|grpc|{cert}|"), Terms { tcp: false, tls: true }).unwrap();
                assert_eq!(said, Handshake { address: tcp.clone(), certificate: Some(vec![7; bytes]) });
            }
        }
        assert!(is_one("1|1|x") && is_one("23|") && !is_one("|1") && !is_one("x|1") && !is_one("hello"));
    }

    #[test]
    fn each_bad_line_says_which() {
        let (long, cert) = ("x".repeat(120), "A".repeat(400));
        for (line, kind, says) in [
            ("1|1|unix".to_owned(), Kind::LoadFailed, "four fields"),
            ("2|1|unix|/tmp/p|grpc".to_owned(), Kind::LoadFailed, "core protocol \"2\""),
            ("1|2|unix|/tmp/p|grpc".to_owned(), Kind::LoadFailed, "version \"2\""),
            ("1|1|unix|/tmp/p".to_owned(), Kind::LoadFailed, "netrpc"),
            ("1|1|unix|/tmp/p|netrpc".to_owned(), Kind::LoadFailed, "netrpc"),
            ("1|1|unix|/tmp/p|http".to_owned(), Kind::LoadFailed, "\"http\""),
            ("1|1|unix|tmp/p|grpc".to_owned(), Kind::LoadFailed, "not absolute"),
            ("1|1|unix||grpc".to_owned(), Kind::LoadFailed, "not absolute"),
            (format!("1|1|unix|/{long}|grpc"), Kind::LoadFailed, "107 bytes"),
            ("1|1|udp|1.2.3.4:5|grpc".to_owned(), Kind::LoadFailed, "\"udp\""),
            ("1|1|tcp|127.0.0.1:1|grpc".to_owned(), Kind::PermissionDenied, "tcp: true"),
            (format!("1|1|unix|/tmp/p|grpc|{cert}"), Kind::LoadFailed, "TLS was not asked"),
            ("1|1|unix|/tmp/p|grpc||true".to_owned(), Kind::LoadFailed, "multiplexes"),
        ] {
            let error = parse(&line, Terms::default()).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}");
            assert!(error.message().contains(says), "{line}: {error}");
        }
        assert!(parse("1|1|tcp|localhost|grpc", Terms { tcp: true, tls: false }).unwrap_err().message().contains("ip:port"));
        let garbage = format!("1|1|unix|/tmp/p|grpc|{}", "?".repeat(60));
        for (line, says) in [("1|1|unix|/tmp/p|grpc", "no certificate"), ("1|1|unix|/tmp/p|grpc|", "no certificate"), (&garbage, "base64")]
        {
            let error = parse(line, Terms { tcp: true, tls: true }).unwrap_err();
            assert!(error.kind() == Kind::LoadFailed && error.message().contains(says), "{line}: {error}");
        }
    }
}
