"""Key sets of clients in a private network, with a certificate authority and a proxy from settings."""

import contextlib
import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm
from support.defaults import START

from issuer.clients.client import Client
from issuer.clients.key_sets import ClientKeys
from issuer.oauth import AuthMethod
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings

HOST = "clients.internal.example"
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "one"}


def certificate(
    name: str, signed_by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by[0].subject if signed_by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signed_by is not None,
                key_cert_sign=signed_by is None,
                crl_sign=signed_by is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signed_by:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by[1].public_key())
        built = built.add_extension(above, critical=False)
    return built.sign(signed_by[1] if signed_by else key, SHA256()), key


class KeySet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"keys": [JWK]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Network:
    """A server with a certificate of a private authority, and the only proxy that resolves its name."""

    authority: Path
    port: int
    proxy_port: int
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    authority = certificate("a private authority")
    for name in (HOST, "localhost"):
        leaf, key = certificate(name, authority)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(pem + leaf.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(authority[0].public_bytes(Encoding.PEM))
    contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in (HOST, "localhost")}
    for name, context in contexts.items():
        context.load_cert_chain(tmp_path / f"{name}.pem")

    def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = contexts.get(name or "", contexts[HOST])

    contexts[HOST].sni_callback = choose
    server = ThreadingHTTPServer(("127.0.0.1", 0), KeySet)
    server.socket = contexts[HOST].wrap_socket(server.socket, server_side=True)
    network = Network(tmp_path / "ca.pem", server.server_port, 0)

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            network.asked.append(f"{self.path} {self.headers.get('Proxy-Authorization', '')}".strip())
            self.send_response(200)
            self.end_headers()
            with socket.create_connection(("127.0.0.1", server.server_port)) as there:
                back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
                back.start()
                pump(self.connection, there)
                back.join(5)

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    network.proxy_port = proxy.server_port
    for each in (server, proxy):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    yield network
    for each in (server, proxy):
        each.shutdown()
        each.server_close()


def pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            to.sendall(part)
        to.shutdown(socket.SHUT_WR)


def found(url: str) -> list[str | None]:
    """Return the kids that an issuer with the settings of this process fetches from `url`."""
    settings = load_settings()
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    keys = ClientKeys(settings.trusted_authorities(), proxy)
    client = Client(
        id="a client",
        name="signs",
        auth_method=AuthMethod.PRIVATE_KEY_JWT,
        scope=frozenset(),
        audiences=(),
        jwks_uri=url,
        created_at=START,
    )
    try:
        return [key.kid for key in keys.keys(client, "one", START)]
    finally:
        keys.close()


def test_a_private_authority_is_trusted_when_a_setting_names_it(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://localhost:{network.port}/jwks"
    assert found(url) == []
    monkeypatch.setenv("ISSUER_CA_FILE", str(network.authority))
    assert found(url) == ["one"]


def test_key_sets_are_fetched_through_the_proxy_that_a_setting_names(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://{HOST}:{network.port}/jwks"
    monkeypatch.setenv("ISSUER_CA_FILE", str(network.authority))
    assert found(url) == []
    monkeypatch.setenv("ISSUER_PROXY", f"http://me:secret@127.0.0.1:{network.proxy_port}")
    assert found(url) == ["one"]
    assert network.asked == [f"{HOST}:{network.port} Basic bWU6c2VjcmV0"]


def test_loopback_is_fetched_without_the_proxy(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSUER_CA_FILE", str(network.authority))
    monkeypatch.setenv("ISSUER_PROXY", f"http://127.0.0.1:{network.proxy_port}")
    assert found(f"https://localhost:{network.port}/jwks") == ["one"]
    assert network.asked == []


@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA\n", "folder"]
)
def test_an_unusable_ca_file_is_rejected_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str | None
) -> None:
    path = tmp_path / "ca.pem"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    monkeypatch.setenv("ISSUER_CA_FILE", str(path))
    with pytest.raises(BadSettings, match=r"^ISSUER_CA_FILE: cannot use [^\n]*$"):
        load_settings().trusted_authorities()


def test_the_password_of_a_proxy_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSUER_PROXY", "http://me:hidden@proxy.example:3128")
    assert "hidden" not in repr(load_settings())
    monkeypatch.setenv("ISSUER_PROXY", "http://me:hidden@proxy example")
    with pytest.raises(BadSettings) as refusal:
        load_settings()
    assert "hidden" not in str(refusal.value)
