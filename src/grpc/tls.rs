//! TLS between host and plugin, as go-plugin's AutoMTLS has it: both ends show a certificate that was made for this one
//! process, and each takes the other's and no third.
//!
//! The host's travels in the environment (`PLUGIN_CLIENT_CERT`), the plugin's in its handshake. Nobody has signed either, so
//! there is no chain to follow: a [`Pin`] compares the whole certificate, and checks that the other end has its key.

use std::io;
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::error::{Error, Kind, Result};

/// The name in both certificates.
const NAME: &str = "localhost";

/// What gRPC is called where a connection's protocol is agreed on.
const PROTOCOL: &[u8] = b"h2";

/// How long a TLS handshake may take, beside the deadline of the call that needs it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The host's certificate for one process, and its key.
pub(super) struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Identity {
    /// A fresh one: P-256, of no authority, for both ends of a connection. It never expires, as its process may not.
    pub(super) fn new() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::new(Kind::Internal, format!("The host's certificate for the plugin could not be made: {e}."));
        let mut about = rcgen::CertificateParams::new([NAME.to_owned()]).map_err(failed)?;
        about.distinguished_name = rcgen::DistinguishedName::new();
        about.distinguished_name.push(rcgen::DnType::CommonName, NAME);
        about.is_ca = rcgen::IsCa::ExplicitNoCa;
        about.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        about.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = about.self_signed(&key).map_err(failed)?;
        Ok(Identity { certificate, key })
    }

    /// The certificate as the environment carries it.
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What both ends need once the plugin's certificate, DER, is known.
    pub(super) fn with(&self, other: Vec<u8>) -> Result<Tls> {
        let failed = |e: rustls::Error| {
            Error::new(
                Kind::LoadFailed,
                format!("The certificate of the plugin's handshake cannot be used: {e}; it must be X.509, in DER."),
            )
        };
        let other = CertificateDer::from(other);
        ParsedCertificate::try_from(&other).map_err(failed)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pin = Arc::new(Pin { certificate: other, algorithms: provider.signature_verification_algorithms });
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(self.client(provider.clone(), pin.clone()).map_err(failed)?)),
            acceptor: TlsAcceptor::from(Arc::new(self.server(provider, pin).map_err(failed)?)),
        })
    }

    fn client(&self, provider: Arc<CryptoProvider>, pin: Arc<Pin>) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_client_auth_cert(self.chain(), self.key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    fn server(&self, provider: Arc<CryptoProvider>, pin: Arc<Pin>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(pin)
            .with_single_cert(self.chain(), self.key())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Both ends of a connection with one plugin.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// The connecting end.
    pub(super) async fn connect<T: AsyncRead + AsyncWrite + Unpin>(&self, socket: T) -> io::Result<Stream<T>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        agreed(async { self.connector.connect(name, socket).await.map(TlsStream::from) }).await
    }

    /// The accepting end.
    pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(&self, socket: T) -> io::Result<Stream<T>> {
        agreed(async { self.acceptor.accept(socket).await.map(TlsStream::from) }).await
    }
}

async fn agreed<T>(handshake: impl Future<Output = io::Result<TlsStream<T>>>) -> io::Result<Stream<T>> {
    let failed = |why: &str| io::Error::other(format!("TLS was not agreed on: {why}"));
    let agreed = tokio::time::timeout(HANDSHAKE, handshake).await;
    let stream = agreed.map_err(|_| failed("the other end did not go on"))?.map_err(|e| failed(&e.to_string()))?;
    if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
        return Err(failed("the other end did not choose HTTP/2 (ALPN h2), which gRPC needs"));
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// Takes one certificate, whichever end shows it.
#[derive(Debug)]
struct Pin {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pin {
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if *shown == self.certificate {
            return Ok(());
        }
        Err(rustls::Error::General("the plugin shows another certificate than the one in its handshake".to_owned()))
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pin {
    // None are named: the plugin is to show the one it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A connection, with TLS or as it is.
pub(super) enum Stream<T> {
    Plain(T),
    Tls(Box<TlsStream<T>>),
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<T> {
    fn poll_read(self: Pinned<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pinned::new(stream).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(self: Pinned<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pinned::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pinned<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pinned::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pinned::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pinned::new(stream).poll_shutdown(cx),
        }
    }
}
