//! The one line by which a plugin says where it listens: `1|1|unix|<path>|grpc|<cert>|<mux>`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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

/// Whether a line is meant as a handshake; anything else before it is noise.
pub(super) fn is_one(line: &str) -> bool {
    line.split_once('|').is_some_and(|(core, _)| !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the line. `tcp`: whether the policy takes a plugin that listens on TCP without TLS.
pub(super) fn parse(line: &str, tcp: bool) -> Result<Address> {
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
    if rest.get(1).is_some_and(|cert| cert.len() > CERTIFICATE_MIN) {
        let text = "The plugin serves TLS, which was not asked of it and which this version does not speak; remove its TLSProvider.";
        return Err(Error::new(Kind::Unsupported, text));
    }
    if rest.get(2).is_some_and(|mux| *mux == "true") {
        return Err(failed(line, "it multiplexes its connection, which was not asked of it"));
    }
    match *network {
        "unix" => unix(line, address),
        "tcp" if tcp => address.parse().map(Address::Tcp).map_err(|_| failed(line, "its TCP address is not of the form ip:port")),
        "tcp" => {
            let text = "The plugin listens on TCP, where every user of the machine can reach it. Make it listen on a Unix socket (PLUGIN_UNIX_SOCKET_DIR), or grant `tcp: true` in the policy.";
            Err(Error::new(Kind::PermissionDenied, text).with_detail("handshake", clean(line, 200)))
        }
        other => Err(failed(line, &format!("its network {other:?} is neither unix nor tcp"))),
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
        let path = Address::Unix("/tmp/p".into());
        for line in [
            "1|1|unix|/tmp/p|grpc",
            "1|1|unix|/tmp/p|grpc|",
            "1|1|unix|/tmp/p|grpc|short",
            "1|1|unix|/tmp/p|grpc||false",
            "1|1|unix|/tmp/p|grpc|||more|",
        ] {
            assert_eq!(parse(line, false).unwrap(), path, "{line}");
        }
        assert_eq!(parse("1|1|tcp|127.0.0.1:1234|grpc", true).unwrap(), Address::Tcp("127.0.0.1:1234".parse().unwrap()));
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
            (format!("1|1|unix|/tmp/p|grpc|{cert}"), Kind::Unsupported, "TLS"),
            ("1|1|unix|/tmp/p|grpc||true".to_owned(), Kind::LoadFailed, "multiplexes"),
        ] {
            let error = parse(&line, false).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}");
            assert!(error.message().contains(says), "{line}: {error}");
        }
        assert!(parse("1|1|tcp|localhost|grpc", true).unwrap_err().message().contains("ip:port"));
    }
}
