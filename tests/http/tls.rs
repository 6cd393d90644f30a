//! https: the certificate of the name that was asked for, by an authority that is trusted.

use std::sync::Arc;

use flowplug::error::{Error, Kind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::Server;
use crate::support::Folder;
use crate::{Web, denial, plugin};

/// An authority, in a file, and what it signs.
struct Authority {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = Folder::new();
        std::fs::write(folder.0.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn web(&self) -> Web {
        Web::trusting(Some(&self.folder.0.join("ca.pem")))
    }

    /// A server with a certificate for these names, which redirects to where its path says.
    fn server(&self, names: &[&str]) -> Server {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let answer = |seen: &crate::server::Seen, out: &mut dyn crate::server::Stream| {
            let path = seen.line.split(' ').nth(1).unwrap();
            match path.strip_prefix("/to/") {
                Some(to) => write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").is_ok(),
                None => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").is_ok(),
            }
        };
        Server::on("127.0.0.1:0", answer, move |tcp| Some(Box::new(StreamOwned::new(ServerConnection::new(config.clone()).ok()?, tcp))))
    }
}

#[test]
fn a_server_is_believed_for_its_names_by_a_trusted_authority_alone() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server(&["good.example.com", "127.0.0.1"]);
    let port = server.port();
    let p = plugin(&["*.example.com", "127.0.0.1"], &["127.0.0.1"]);
    let get = |web: &Web, url: String| -> Result<Vec<u8>, Error> {
        web.name("good.example.com", &[&["127.0.0.1"]]);
        web.name("wrong.example.com", &[&["127.0.0.1"]]);
        web.get(&p, &url).map(|answer| answer.body)
    };
    let web = authority.web();
    assert_eq!(get(&web, format!("https://good.example.com:{port}/")).unwrap(), b"secret");
    assert_eq!(get(&web, format!("https://good.example.com:{port}/again")).unwrap(), b"secret");
    assert_eq!(server.connections(), 1);
    assert_eq!(get(&web, format!("https://127.0.0.1:{port}/")).unwrap(), b"secret");
    let refused = |web: &Web, host: &str| {
        let error = get(web, format!("https://{host}:{port}/")).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("certificate")), (Kind::Io, true), "{error}");
    };
    refused(&web, "wrong.example.com");
    let p = plugin(&["*.example.com"], &["127.0.0.1"]);
    let untrusting = other.web();
    untrusting.name("good.example.com", &[&["127.0.0.1"]]);
    let error = untrusting.get(&p, &format!("https://good.example.com:{port}/")).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("certificate")), (Kind::Io, true), "{error}");
}

#[test]
fn a_redirect_never_leaves_https() {
    let authority = Authority::new();
    let (web, server, plain) = (authority.web(), authority.server(&["good.example.com"]), Server::plain());
    web.name("good.example.com", &[&["127.0.0.1"]]);
    let p = plugin(&["good.example.com", "127.0.0.1"], &["127.0.0.1"]);
    let base = format!("https://good.example.com:{}/to/", server.port());
    let error = web.get(&p, &format!("{base}{}", plain.url("/"))).unwrap_err();
    assert!(denial(&error).contains("https"), "{error}");
    assert_eq!(plain.connections(), 0);
    assert_eq!(web.get(&p, &format!("{base}/end")).unwrap().body, b"secret");
    // The other way it is followed.
    let up =
        Server::saying(format!("HTTP/1.1 302 Found\r\nLocation: https://good.example.com:{}/\r\nContent-Length: 0\r\n\r\n", server.port()));
    assert_eq!(web.get(&p, &up.url("/")).unwrap().body, b"secret");
}

#[test]
fn a_file_without_certificates_is_told_when_the_host_is_made() {
    let folder = Folder::new();
    let file = folder.0.join("ca.pem");
    let runtime = flowplug::runtime::shared(1).unwrap();
    for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let error = flowplug::host::http::client::HttpClient::new(runtime.handle().clone(), Some(&file)).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("ca.pem")), (Kind::Io, true), "{error}");
    }
}
