"""AutoMTLS as a host sees it: the plugin answers a certificate with its own, and lets nobody else in."""

import base64
import json
import ssl
import subprocess
import sys

import grpc
import pytest
from test_serve import environment, host  # noqa: F401

from flowplug_sdk.pb import flowbot_plugin_pb2 as pb
from flowplug_sdk.pb import flowbot_plugin_pb2_grpc as pb_grpc


def certificate(curve):
    """A key and a certificate, both PEM, of nobody's: as hosts make them."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(curve), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def started(tmp_path, host):  # noqa: F811
    """Starts a plugin for the host with this certificate; gives its socket and its own certificate, PEM."""
    processes = []

    def start(host_certificate):
        env = environment(tmp_path, host) | {"PLUGIN_CLIENT_CERT": host_certificate.decode()}
        process = subprocess.Popen([sys.executable, "plugin.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        fields = process.stdout.readline().rstrip("\n").split("|")
        assert fields[:3] + fields[4:5] == ["1", "1", "unix", "grpc"] and "=" not in fields[5], fields
        der = base64.b64decode(fields[5] + "=" * (-len(fields[5]) % 4))
        return f"unix:{fields[3]}", ssl.DER_cert_to_PEM_cert(der).encode()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ask(address, credentials):
    options = [("grpc.default_authority", "localhost"), ("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(address, credentials, options) as channel:
        return pb_grpc.PluginServiceStub(channel).Command(pb.CommandRequest(content='{"a":1}'), timeout=20).payload


def test_the_host_gets_in_and_nobody_else(started):
    from cryptography.hazmat.primitives.asymmetric import ec

    (key, own), (other_key, other) = certificate(ec.SECP256R1()), certificate(ec.SECP256R1())
    address, plugins = started(own)
    assert json.loads(ask(address, grpc.ssl_channel_credentials(plugins, key, own)))["content"] == {"a": 1}
    for stranger in (grpc.ssl_channel_credentials(plugins), grpc.ssl_channel_credentials(plugins, other_key, other)):
        with pytest.raises(grpc.RpcError) as refused:
            ask(address, stranger)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        pb_grpc.PluginServiceStub(channel).Command(pb.CommandRequest(), timeout=20)
