"""Fetches in private networks: with a private certificate authority, and through a proxy.

With real TLS servers and a real proxy on loopback. Fetches as such are tested in `test_fetches`.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jwks_verifier import Event, JwksCache, KeysUnavailable, State
from jwks_verifier.testing import KeyPair
from verifier_example.app import build_verifier, create_app
from verifier_example.settings import Settings

pytestmark = pytest.mark.anyio
PASSWORD = "proxy-secret"
NAME = "issuer.test"
"""A host name that only the proxy resolves."""


def certificate(name: str, key: Any, signer: tuple[x509.Certificate, Any] | None = None) -> x509.Certificate:
    """Make a certificate of an authority, or one for 127.0.0.1 signed by an authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signing_key = signer[1] if signer else key
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = builder.add_extension(authority, critical=False)
    if signer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName(NAME)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


class Authority:
    """A private authority: the CA file, and the TLS context of a server with a certificate of it."""

    def __init__(self, folder: Path, name: str) -> None:
        key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = certificate(name, key)
        leaf = certificate("server", server_key, (root, key))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(root.public_bytes(Encoding.PEM))
        chain = folder / f"{name}-server.pem"
        private = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain.write_bytes(private + leaf.public_bytes(Encoding.PEM))
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(chain)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "private")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@asynccontextmanager
async def tls_issuer(authority: Authority, pairs: list[KeyPair]) -> AsyncIterator[str]:
    """Serve a key set over HTTPS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps({"keys": [pairs[0].jwk]}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=authority.server)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Proxy:
    """A real forwarding proxy for CONNECT, which records its requests."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.url = ""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        host, _, port = head.split()[1].partition(":")
        onward, back = await asyncio.open_connection("127.0.0.1" if host == NAME else host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(self._pump(reader, back), self._pump(onward, writer))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self


async def state_of(cache: JwksCache) -> State:
    async with cache:
        with suppress(KeysUnavailable):
            await cache.refetched()
        return cache.state


async def test_an_issuer_with_a_private_ca_is_trusted_only_by_the_ca_file(
    authority: Authority, stranger: Authority, pairs: list[KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with tls_issuer(authority, pairs) as url:
        for ca_file, state in (
            (authority.file, State.FRESH),
            (stranger.file, State.EMPTY),
            (None, State.EMPTY),
        ):
            cache = JwksCache(url, jwks_url=f"{url}/jwks", ca_file=str(ca_file) if ca_file else None)
            assert await state_of(cache) is state


async def test_ssl_cert_file_is_used_unless_a_ca_file_is_given(
    authority: Authority, stranger: Authority, pairs: list[KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_issuer(authority, pairs) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert await state_of(JwksCache(url, jwks_url=f"{url}/jwks")) is State.FRESH
        other = JwksCache(url, jwks_url=f"{url}/jwks", ca_file=str(stranger.file))
        assert await state_of(other) is State.EMPTY
        monkeypatch.setenv("SSL_CERT_FILE", "")
        assert (
            await state_of(JwksCache(url, jwks_url=f"{url}/jwks", ca_file=str(authority.file))) is State.FRESH
        )


async def test_the_service_uses_the_ca_file_and_the_proxy_of_its_settings(
    authority: Authority, pairs: list[KeyPair]
) -> None:
    async with tls_issuer(authority, pairs) as here, Proxy().serving() as proxy:
        url = here.replace("127.0.0.1", NAME)
        settings = Settings(
            _env_file=None,
            issuer=url,
            jwks_url=f"{url}/jwks",
            ca_file=str(authority.file),
            proxy=proxy.url.replace("//", f"//alice:{PASSWORD}@"),  # type: ignore[arg-type]
        )
        assert PASSWORD not in repr(settings)
        cache = build_verifier(settings).cache
        assert PASSWORD not in repr(cache)
        assert await state_of(cache) is State.FRESH
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {url.removeprefix('https://')} ")
    assert "proxy-authorization: basic " in head.lower()


async def test_loopback_is_fetched_without_the_proxy(authority: Authority, pairs: list[KeyPair]) -> None:
    async with tls_issuer(authority, pairs) as url, Proxy().serving() as proxy:
        cache = JwksCache(url, jwks_url=f"{url}/jwks", ca_file=str(authority.file), proxy=proxy.url)
        assert await state_of(cache) is State.FRESH
    assert proxy.heads == []


async def test_a_proxy_of_the_environment_is_used_by_choice_and_never_for_loopback(
    authority: Authority, pairs: list[KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "all_proxy", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    async with tls_issuer(authority, pairs) as here, Proxy().serving() as proxy:
        url = here.replace("127.0.0.1", NAME)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//alice:{PASSWORD}@"))

        async def state(url: str, *, trust_env: bool, no_proxy: str = "") -> State:
            monkeypatch.setenv("NO_PROXY", no_proxy)
            cache = JwksCache(url, jwks_url=f"{url}/jwks", ca_file=str(authority.file), trust_env=trust_env)
            assert PASSWORD not in repr(cache)
            return await state_of(cache)

        assert await state(url, trust_env=False) is State.EMPTY  # only the proxy resolves the name
        assert await state(url, trust_env=True, no_proxy=NAME) is State.EMPTY
        assert await state(here, trust_env=True) is State.FRESH
        assert proxy.heads == []
        assert await state(url, trust_env=True, no_proxy="other.test") is State.FRESH
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {url.removeprefix('https://')} ")
    assert "proxy-authorization: basic " in head.lower()


@pytest.mark.parametrize(
    "value", [f"socks5://a:{PASSWORD}@p:1", f"ftp://a:{PASSWORD}@p", f"http://a:{PASSWORD}@p:x"]
)
async def test_an_unusable_proxy_of_the_environment_is_rejected_without_showing_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ValueError, match="a proxy of the environment") as refusal:
        JwksCache("https://issuer.test", trust_env=True)
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))
    JwksCache("https://issuer.test")


async def test_headers_are_sent_to_the_hosts_that_the_service_named_and_to_no_other(
    pairs: list[KeyPair],
) -> None:
    sent: dict[str, httpx2.Headers] = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent[str(request.url)] = request.headers
        if request.url.path.startswith("/.well-known"):
            return httpx2.Response(
                200, json={"issuer": "https://issuer.test", "jwks_uri": "https://cdn.test/jwks"}
            )
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]})

    headers = {"X-Api-Key": PASSWORD, "Accept": "application/jwk-set+json"}
    for jwks_url in (None, "https://keys.test/jwks"):
        cache = JwksCache(
            "https://issuer.test", jwks_url=jwks_url, headers=headers, transport=httpx2.MockTransport(answer)
        )
        assert PASSWORD not in repr(cache)
        assert await state_of(cache) is State.FRESH
    with_key = {httpx2.URL(url).host for url, each in sent.items() if each.get("X-Api-Key") == PASSWORD}
    assert with_key == {"issuer.test", "keys.test"}
    assert {each.get_list("Accept-Encoding")[0] for each in sent.values()} == {"identity"}
    assert sent["https://keys.test/jwks"].get_list("Accept") == ["application/jwk-set+json"]
    assert "X-Api-Key" not in sent["https://cdn.test/jwks"]


@pytest.mark.parametrize(
    "name", ["Accept-Encoding", "if-none-match", "HOST", "Transfer-Encoding", "a b", "x:", "é", ""]
)
async def test_a_header_that_the_fetch_depends_on_cannot_be_set(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be set for fetches"):
        JwksCache("https://issuer.test", headers={name: "x"})


@pytest.mark.parametrize("value", ["", "a\r\nHost: evil", "a\n", "\x00", "é", "a "])
async def test_a_header_value_of_several_lines_is_rejected_without_showing_it(value: str) -> None:
    with pytest.raises(ValueError, match="the value of the header X-Key is not one line of ASCII") as refusal:
        JwksCache("https://issuer.test", headers={"X-Key": PASSWORD + value if value.strip() else value})
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_plain_http_on_this_machine_is_never_sent_to_a_proxy(host: str) -> None:
    async with Proxy().serving() as proxy:
        cache = JwksCache(f"http://{host}:9", proxy=proxy.url)
        assert await state_of(cache) is State.EMPTY
    assert proxy.heads == []


async def test_an_unreachable_proxy_is_a_failed_fetch_that_shows_no_password(pairs: list[KeyPair]) -> None:
    reported: list[str] = []

    def listen(event: Event, detail: str) -> None:
        if event is Event.FETCH_FAILED:
            reported.append(detail)

    cache = JwksCache("https://issuer.test", proxy=f"http://alice:{PASSWORD}@127.0.0.1:9", on_event=listen)
    assert await state_of(cache) is State.EMPTY
    assert reported
    assert PASSWORD not in "".join(reported)


@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_an_unusable_ca_file_is_rejected_by_the_constructor(
    content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"the CA file '.*ca\.pem' cannot be used: ") as refusal:
        JwksCache("https://issuer.test", ca_file=str(file))
    assert "\n" not in str(refusal.value)


async def test_a_directory_is_rejected_as_a_ca_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        JwksCache("https://issuer.test", ca_file=str(tmp_path))


@pytest.mark.parametrize(
    "proxy",
    ["proxy:3128", f"socks5://a:{PASSWORD}@p:1", f"http://a:{PASSWORD}@", f"http://a:{PASSWORD}@p:1/x", "a b",
     f"http://a:{PASSWORD}@p:99999"],
)  # fmt: skip
async def test_an_invalid_proxy_url_is_rejected_without_showing_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match="the proxy is not given as") as refusal:
        JwksCache("https://issuer.test", proxy=proxy)
    assert PASSWORD not in str(refusal.value)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "VERIFIER_CA_FILE",
            "/nonexistent/ca.pem",
            "VERIFIER_CA_FILE: the CA file '/nonexistent/ca.pem' cannot",
        ),
        ("VERIFIER_PROXY", f"socks5://a:{PASSWORD}@p", "VERIFIER_PROXY: the proxy is not given as http"),
        (
            "VERIFIER_ISSUER",
            "http://issuer.test",
            "VERIFIER_ISSUER: neither an https URL nor http on this machine",
        ),
        ("VERIFIER_TTL_FLOOR", "soon", "VERIFIER_TTL_FLOOR: "),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "the file in SSL_CERT_FILE cannot be used: "),
    ],
)
@pytest.mark.processes
async def test_a_start_with_bad_settings_ends_with_one_line(
    name: str, value: str, said: str, tmp_path: Path
) -> None:
    kept = {each: text for each, text in os.environ.items() if not each.startswith(("VERIFIER_", "SSL_"))}
    command = [sys.executable, "-m", "uvicorn", "--factory", "verifier_example.app:create_app", "--port", "0"]
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs in this loop
        command,
        env={**kept, name: value, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"the service cannot start: {said}")
    assert PASSWORD not in done.stdout + done.stderr


async def test_an_empty_ca_file_or_proxy_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    JwksCache("https://issuer.test", ca_file="", proxy="")
    monkeypatch.setenv("VERIFIER_CA_FILE", "")
    monkeypatch.setenv("VERIFIER_PROXY", "")
    settings = Settings(_env_file=None)
    assert (settings.ca_file, settings.proxy) == (None, None)


async def test_invalid_settings_passed_as_an_argument_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the CA file"):
        create_app(Settings(_env_file=None, ca_file=str(tmp_path / "none")))
