"""The plugin's half of go-plugin's AutoMTLS: a key and a certificate for this one process, which takes the host's certificate alone."""

from __future__ import annotations

import base64
import sys
from datetime import datetime, timedelta, timezone

import grpc

LIFETIME = timedelta(days=30 * 365)


def server_credentials(host_certificate: str) -> tuple[grpc.ServerCredentials, str]:
    """Credentials for a server that only the host reaches, whose certificate is given as PEM; and the server's own certificate as
    the handshake has it: DER in base64, unpadded."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        sys.exit("The host requires TLS, for which this plugin needs the package cryptography: pip install 'flowplug-sdk[tls]'.")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, der = (certificate.public_bytes(form) for form in (serialization.Encoding.PEM, serialization.Encoding.DER))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials([(secret, pem)], host_certificate.encode(), require_client_auth=True)
    return credentials, base64.b64encode(der).rstrip(b"=").decode()
