"""Gateways as processes on loopback, with the configurations shown in docs/verifying.md.

A token is verified by the status of a request with it; expected statuses are in `test_interop`.
"""

import getpass
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.components import APACHE_MODULES, INTEROP
from support.servers import HOST, PATIENCE_SECONDS, eventually, free_port

ENVOY = str(INTEROP / "envoy/fetched/envoy/_bin/envoy")
ACCEPTED = 200


class Place(NamedTuple):
    """The issuer and audience that a verifier accepts, and how long it may cache the keys."""

    issuer: str
    audience: str
    """Also the URL of the example service, which is behind the gateways."""
    cache_seconds: int = 300


class Answer(NamedTuple):
    """A gateway's answer for a token: the status only, without the key or a reason."""

    status: int

    @property
    def accepted(self) -> bool:
        """Whether the request was forwarded."""
        return self.status == ACCEPTED


class Gateway:
    """A gateway that runs within the block, with its own folder and port."""

    def __init__(self, config: str, command: list[str], place: Place) -> None:
        self._config = INTEROP / config
        self._command = command
        self._place = place
        self._port, self._tls_port = free_port(), free_port()
        self._http = httpx2.Client(
            trust_env=False, timeout=PATIENCE_SECONDS, limits=httpx2.Limits(max_keepalive_connections=0)
        )

    def __enter__(self) -> Self:
        # Not in pytest's folder, which the unprivileged server processes cannot read.
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-"))
        self._folder.chmod(0o755)
        config = self._folder / self._config.name
        config.write_text(self._filled(self._config.read_text("utf-8")), "utf-8")
        (self._folder / "certificate.pem").write_bytes(self_signed())
        with (self._folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._command, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually(self._answers, f"{self._command[0]} answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # first, so that it can clean up
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._http.close()
        shutil.rmtree(self._folder)

    def verify(self, token: str) -> Answer:
        """Send a request with the token."""
        headers = {"Authorization": f"Bearer {token}"}
        return Answer(self._http.get(self._url, headers=headers).status_code)

    @property
    def _url(self) -> str:
        return f"http://{HOST}:{self._port}/healthz"

    def _answers(self) -> bool:
        logs = "\n".join(log.read_text("utf-8", "replace") for log in self._folder.glob("*.log"))
        assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{logs}"
        with suppress(httpx2.TransportError):
            return self._http.get(self._url).status_code != ACCEPTED  # it has no token
        return False

    def _filled(self, config: str) -> str:
        """Replace the placeholders and URLs of the documented configuration by those of the test."""
        for name, value in self._values().items():
            config = config.replace(name, value)
        return config

    def _values(self) -> Mapping[str, str]:
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwnam(getpass.getuser())
        return {
            "300": str(self._place.cache_seconds),  # first: a port may have these digits
            "JwksUri https://issuer.example": f"JwksUri https://{HOST}:{self._tls_port}",
            "https://issuer.example": self._place.issuer,
            "https://api.example": self._place.audience,
            "@FOLDER@": str(self._folder),
            "@MODULES@": str(APACHE_MODULES),
            "@PORT@": str(self._port),
            "@TLS_PORT@": str(self._tls_port),
            "@ISSUER_PORT@": str(urlsplit(self._place.issuer).port),
            "http://backend.example": self._place.audience,
            "@USER@": user.pw_name,
            "@GROUP@": grp.getgrgid(user.pw_gid).gr_name,
        }


def envoy(place: Place) -> Gateway:
    """Envoy's filter jwt_authn."""
    return Gateway("envoy/envoy.yaml", [ENVOY, "--use-dynamic-base-id", "--concurrency", "1", "-c"], place)


def nginx(place: Place) -> Gateway:
    """nginx, which verifies each token by a subrequest to the example service."""
    return Gateway("nginx/nginx.conf", ["nginx", "-c"], place)


def mod_oauth2(place: Place) -> Gateway:
    """Apache httpd with mod_oauth2."""
    return Gateway("apache/mod_oauth2.conf", ["apache2", "-DFOREGROUND", "-f"], place)


def mod_auth_openidc(place: Place) -> Gateway:
    """Apache httpd with mod_auth_openidc, as a resource server."""
    return Gateway("apache/mod_auth_openidc.conf", ["apache2", "-DFOREGROUND", "-f"], place)


def self_signed() -> bytes:
    """Return a self-signed certificate for loopback, with its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
