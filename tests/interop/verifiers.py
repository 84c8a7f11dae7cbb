"""The verifiers that `test_interop` tests: each library configured as in docs/verifying.md, and the gateways.

Gateways run in `gateways`; expected results are in `test_interop`.
"""

import json
import select
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import httpx2
import jwt
from interop import joserfc_verifier, pyjwt_verifier
from interop.gateways import Answer, Place, envoy, mod_auth_openidc, mod_oauth2, nginx
from joserfc.errors import JoseError
from support.components import INTEROP
from support.servers import PATIENCE_SECONDS


class Verdict(NamedTuple):
    """A library's result for a token."""

    accepted: bool
    kid: str | None = None
    reason: str | None = None


class StackVerifier(Protocol):
    """A verifier made from the issuer's URL and the audience; it caches keys as its stack does."""

    def verify(self, token: str) -> Verdict | Answer:
        """Verify one token."""


class InPython:
    """A Python library, in this process."""

    def __init__(
        self, verifier: Callable[..., Callable[[str], Any]], header: Callable[[Any], Any], place: Place
    ) -> None:
        url = f"{place.issuer}/.well-known/openid-configuration"
        metadata = httpx2.get(url, trust_env=False).json()
        self._verify = verifier(metadata["jwks_uri"], place.issuer, place.audience, place.cache_seconds)
        self._header = header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def verify(self, token: str) -> Verdict:
        """Verify one token."""
        try:
            return Verdict(accepted=True, kid=self._header(self._verify(token))["kid"])
        except (jwt.PyJWTError, JoseError) as error:
            return Verdict(accepted=False, reason=repr(error))


class Program:
    """A verifier in another language: reads one token per line, writes one JSON document per line."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command = command
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def verify(self, token: str) -> Verdict:
        """Verify one token."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{token}\n")
        self._process.stdin.flush()
        answered, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
        assert answered, f"{self._command[0]} has not answered within {PATIENCE_SECONDS} s"
        line = self._process.stdout.readline()
        assert line, f"{self._command[0]} ended with {self._process.wait(PATIENCE_SECONDS)}"
        return Verdict(**json.loads(line))


def py_jwt(place: Place) -> InPython:
    """PyJWT's PyJWKClient."""
    return InPython(pyjwt_verifier.verifier, itemgetter("header"), place)


def joserfc(place: Place) -> InPython:
    """joserfc, with the keys of PyJWKClient."""
    return InPython(joserfc_verifier.verifier, attrgetter("header"), place)


def jose(place: Place) -> Program:
    """panva/jose's createRemoteJWKSet on Node.js."""
    command = ["node", "verify.mjs", place.issuer, place.audience, str(place.cache_seconds)]
    return Program(command, INTEROP / "jose")


def go_oidc(place: Place) -> Program:
    """go-oidc, which caches keys until it ends."""
    return Program([str(INTEROP / "go" / "verify"), place.issuer, place.audience], INTEROP / "go")


def spring(place: Place) -> Program:
    """Spring Security's NimbusJwtDecoder."""
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", "target/classes:target/jars/*"]
    command = ["java", *options, "Verify", place.issuer, place.audience]
    if place.cache_seconds != 300:
        command.append(str(place.cache_seconds))
    return Program(command, INTEROP / "spring")


STACKS: Mapping[str, Callable[[Place], AbstractContextManager[StackVerifier]]] = {
    "PyJWT": py_jwt,
    "joserfc": joserfc,
    "jose": jose,
    "go-oidc": go_oidc,
    "Spring Security": spring,
    "Envoy": envoy,
    "nginx": nginx,
    "mod_oauth2": mod_oauth2,
    "mod_auth_openidc": mod_auth_openidc,
}
