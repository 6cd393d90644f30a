//! TLS with who is not what its handshake says. The plugin is a script that names a socket of the test's own.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS12;
use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;

use crate::hostile::{Plugin, script};
use crate::streams::{listen, serve};
use crate::support::{Bench, SOON, comes_true, order};

type Made = rcgen::CertifiedKey<rcgen::KeyPair>;

fn made() -> Made {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn key(of: &Made) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(of.signing_key.serialize_der()).into()
}

/// Shows one certificate and signs with another's key, which rustls would not put together by itself.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server that shows the certificate of `shows`, has the key of `has`, and asks for no certificate.
fn server(shows: &Made, has: &Made, protocols: &[&[u8]], versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let signing = aws_lc_rs::sign::any_ecdsa_type(&key(has)).unwrap();
    let certified = Arc::new(CertifiedKey::new(vec![shows.cert.der().clone()], signing));
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(Impostor(certified)));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

/// A server that takes the certificates of `others` alone.
fn choosy(own: &Made, others: &Made) -> ServerConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(others.cert.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_client_cert_verifier(clients).with_single_cert(vec![own.cert.der().clone()], key(own)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What is behind a socket.
enum Behind {
    Tls(ServerConfig),
    /// TLS, and then no HTTP/2.
    Garbage(ServerConfig),
    Plain,
    Closes,
    Mute,
}

/// A socket with this behind it, until it is dropped; nothing of it outlives the connections of the test.
struct Listening(PathBuf);

impl Listening {
    fn new(behind: Behind) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpl-{}-{number}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).unwrap();
        let behind = Arc::new(behind);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let behind = behind.clone();
                std::thread::spawn(move || drop(answer(&behind, socket.unwrap())));
            }
        });
        Listening(path)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn answer(behind: &Behind, mut socket: UnixStream) -> std::io::Result<()> {
    match behind {
        Behind::Tls(config) | Behind::Garbage(config) => {
            let mut connection = ServerConnection::new(Arc::new(config.clone())).unwrap();
            // A refusal is told before it is an error.
            let agreed = connection.complete_io(&mut socket);
            drop(connection.write_tls(&mut socket));
            agreed?;
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            if matches!(behind, Behind::Garbage(_)) {
                stream.write_all(&[b'x'; 200])?;
            }
            stream.read_to_end(&mut Vec::new())?;
        }
        Behind::Plain => socket.write_all(&[b'x'; 200])?,
        Behind::Closes => return Ok(()),
        Behind::Mute => {}
    }
    socket.read_to_end(&mut Vec::new()).map(drop)
}

fn base64(der: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(der)
}

#[test]
fn each_false_end_of_tls_is_an_error_that_says_which() {
    let bench = Bench::new("false-tls");
    let (own, other) = (made(), made());
    let h2: &[&[u8]] = &[b"h2"];
    let announced = base64(own.cert.der());
    for (name, behind, certificate, kind, says) in [
        (
            "another",
            Behind::Tls(server(&other, &other, h2, ALL_VERSIONS)),
            &*announced,
            Kind::LoadFailed,
            "another certificate than the one in its handshake",
        ),
        ("no-key", Behind::Tls(server(&own, &other, h2, ALL_VERSIONS)), &announced, Kind::LoadFailed, "BadSignature"),
        ("no-key-1.2", Behind::Tls(server(&own, &other, h2, &[&TLS12])), &announced, Kind::LoadFailed, "BadSignature"),
        ("garbage-1.2", Behind::Garbage(server(&own, &own, h2, &[&TLS12])), &announced, Kind::LoadFailed, "does not speak gRPC"),
        ("no-alpn", Behind::Tls(server(&own, &own, &[], ALL_VERSIONS)), &announced, Kind::LoadFailed, "did not choose HTTP/2"),
        (
            "other-alpn",
            Behind::Tls(server(&own, &own, &[b"http/1.1"], ALL_VERSIONS)),
            &announced,
            Kind::LoadFailed,
            "TLS was not agreed on",
        ),
        ("choosy", Behind::Tls(choosy(&own, &other)), &announced, Kind::LoadFailed, "PLUGIN_CLIENT_CERT"),
        ("garbage", Behind::Garbage(server(&own, &own, h2, ALL_VERSIONS)), &announced, Kind::LoadFailed, "does not speak gRPC"),
        ("plain", Behind::Plain, &announced, Kind::LoadFailed, "TLS was not agreed on"),
        ("closes", Behind::Closes, &announced, Kind::LoadFailed, "TLS was not agreed on"),
        ("mute", Behind::Mute, &announced, Kind::Timeout, "did not answer on its socket in time"),
        ("absent", Behind::Mute, "", Kind::LoadFailed, "no certificate"),
        ("no-base64", Behind::Mute, &"?".repeat(80), Kind::LoadFailed, "not base64"),
        ("no-x509", Behind::Mute, &base64(&[7; 80]), Kind::LoadFailed, "must be X.509"),
        ("cut", Behind::Mute, &base64(&own.cert.der()[..200]), Kind::LoadFailed, "must be X.509"),
    ] {
        let listening = Listening::new(behind);
        let text = format!("echo '1|1|unix|{}|grpc|{certificate}'; exec sleep 60", listening.0.display());
        let begun = Instant::now();
        // Short only where it is what ends the wait.
        let limit = if name == "mute" { "3s" } else { "20s" };
        let more = format!("  tls: required\n  start_timeout: {limit}\n");
        let error = Plugin::new(&format!("tls-{name}"), &script(&text), &more).fails(&bench);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.message().contains(says), "{name}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_handshake_that_is_given_up_leaves_no_socket() {
    let bench = Bench::new("given-up-tls");
    let certificate = made();
    let path = std::env::temp_dir().join(format!("fpm-{}", std::process::id()));
    let own = tokio::runtime::Runtime::new().unwrap();
    let listener = own.block_on(listen(&path));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server(&certificate, &certificate, &[b"h2"], ALL_VERSIONS)));
    let (came, left) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (all, closed) = (came.clone(), left.clone());
    own.spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { serve(acceptor.accept(first).await.unwrap(), Arc::default()).await });
        while let Ok((mut socket, _)) = listener.accept().await {
            all.fetch_add(1, Ordering::SeqCst);
            let closed = closed.clone();
            tokio::spawn(async move {
                drop(socket.read_to_end(&mut Vec::new()).await);
                closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let text = format!("echo '1|1|unix|{}|grpc|{}'; exec sleep 600", path.display(), base64(certificate.cert.der()));
    let program = Plugin::new("given-up-tls", &script(&text), "  tls: required\n");
    let (plugin, _exits) = bench.load_manifest(&program.manifest, Deadline::after(SOON)).unwrap();
    let counts = || (came.load(Ordering::SeqCst), left.load(Ordering::SeqCst));
    // Not every call comes as far as the handshake in its time.
    let several = comes_true(|| {
        let briefly = Call::new(Deadline::after(Duration::from_millis(20)));
        assert_eq!(order(&plugin, serde_json::json!(1), &briefly).unwrap_err().kind(), Kind::Timeout);
        counts().0 >= 20
    });
    assert!(several && comes_true(|| counts().0 == counts().1), "{:?}", counts());
    plugin.stop(&Deadline::after(SOON));
    drop(std::fs::remove_file(&path));
}

#[test]
fn the_brokers_listener_takes_the_plugin_alone() {
    let bench = Bench::new("false-client");
    let manifest = crate::support::built_with("fixture-grpc-plain", "  tls: required\n");
    let (plugin, _exits) = bench.start_manifest(&manifest, "null");
    let socket = bench.left_behind()[0].join("broker.sock");
    let roots = |config: rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>| {
        config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone))
    };
    let stranger = made();
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions().unwrap()
    };
    let without = roots(builder()).with_no_client_auth();
    let with = roots(builder()).with_client_auth_cert(vec![stranger.cert.der().clone()], key(&stranger)).unwrap();
    for mut config in [without, with] {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut socket = UnixStream::connect(&socket).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        // The refusal comes after the client believes that all is well.
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let error = stream.read(&mut [0; 100]).unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
    }
    let mut plain = UnixStream::connect(&socket).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut said = Vec::new();
    drop(plain.read_to_end(&mut said));
    assert!(said.is_empty() || said[0] == 0x15, "a TLS alert or nothing: {said:?}");
    plugin.stop(&flowplug::call::Deadline::after(SOON));
}

/// Believes every server.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
