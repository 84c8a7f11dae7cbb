"""Owns that verifiers written by others accept the issuer's tokens by its URL alone, set as docs/verifying.md has it.

Three of them live through one rotation of a real server; each test reads in the record of what they said.
"""

import json
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import httpx2
import jwt
import pytest
from fetched import HERE, NODE, lack, require
from pyjwt_verifier import verifier
from running import Installation, Server, eventually, kid_of

from verifier_example.testing import KeyPair, make_token

JUDGED_WITHIN_SECONDS = 10
LEEWAY_SECONDS = 10
"""For how long after its end the verifiers accept a token."""
# In seconds: a key leaves the JWKS 3 + 4 + 1 after it was superseded.
SETTINGS = {
    "ISSUER_NODE_TIMEOUT": "3s",
    "ISSUER_OUTAGE_LIMIT": "3s",
    "ISSUER_CLOCK_SKEW": "1s",
    "ISSUER_ACCESS_TOKEN_LIFETIME": "4s",
}
RETIRED_WITHIN_SECONDS = 15


class Judgement(NamedTuple):
    """What a verifier says of a token."""

    accepted: bool
    kid: str | None = None
    reason: str | None = None


class Judge(Protocol):
    """A verifier made from the issuer's URL and the audience; it remembers keys as its library does."""

    def judge(self, token: str) -> Judgement:
        """Judge one token."""


class PyJwt:
    """PyJWT's PyJWKClient, in this process."""

    def __init__(self, issuer: str, audience: str) -> None:
        metadata = httpx2.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()
        self._verify = verifier(metadata["jwks_uri"], issuer, audience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def judge(self, token: str) -> Judgement:
        """Judge one token."""
        try:
            verified = self._verify(token)
        except jwt.PyJWTError as error:
            return Judgement(accepted=False, reason=repr(error))
        return Judgement(accepted=True, kid=verified["header"]["kid"])


class Program:
    """A verifier in another language: one token a line in, one JSON line out."""

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

    def judge(self, token: str) -> Judgement:
        """Judge one token."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{token}\n")
        self._process.stdin.flush()
        answered, _, _ = select.select([self._process.stdout], [], [], JUDGED_WITHIN_SECONDS)
        assert answered, f"{self._command[0]} has not judged a token in {JUDGED_WITHIN_SECONDS} s"
        line = self._process.stdout.readline()
        assert line, f"{self._command[0]} ended with {self._process.wait(JUDGED_WITHIN_SECONDS)}"
        return Judgement(**json.loads(line))


def jose(issuer: str, audience: str) -> Program:
    """panva/jose's createRemoteJWKSet on Node.js."""
    return Program([NODE or "node", "verify.mjs", issuer, audience], HERE / "jose")


def go_oidc(issuer: str, audience: str) -> Program:
    """go-oidc."""
    return Program([str(HERE / "go" / "verify"), issuer, audience], HERE / "go")


LIBRARIES: Mapping[str, Callable[[str, str], PyJwt | Program]] = {
    "PyJWT": PyJwt,
    "jose": jose,
    "go-oidc": go_oidc,
}


class Token(NamedTuple):
    """A token, and what each library said of it."""

    kid: str
    judgements: Mapping[str, Judgement]


class Record(NamedTuple):
    """What happened in one rotation, told by the tokens of each time."""

    before: Token
    during: list[Token]
    new: Token
    old_beside_new: Token
    published_at_last: set[str]
    after_retirement: Token
    expired: Token
    forged_with_our_kid: Token
    of_another_issuer: Token
    without_the_issuer: Token


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    with pytest.MonkeyPatch.context() as environment, ExitStack() as ends:
        environment.setenv("no_proxy", "127.0.0.1")  # PyJWKClient would ask a proxy for loopback
        issuer = ends.enter_context(Installation(tmp_path_factory.mktemp("interop"), **SETTINGS))
        server = issuer.serve().until_ready()
        judges: dict[str, Judge] = {
            library: ends.enter_context(make(issuer.url, issuer.service_url))
            for library, make in LIBRARIES.items()
            if lack(library) is None
        }

        def judged(token: str) -> Token:
            return Token(kid_of(token), {library: judge.judge(token) for library, judge in judges.items()})

        yield rotate_once(issuer, server, judged)


def rotate_once(issuer: Installation, server: Server, judged: Callable[[str], Token]) -> Record:
    """Rotate while every token of the issuer is judged as soon as it is made; stop the issuer at last."""
    old = issuer.token()
    before, during = judged(old), []
    with ThreadPoolExecutor(1) as operator:
        rotating = operator.submit(issuer.command, "keys", "rotate")

        def rotated() -> str | None:
            nonlocal old
            token = issuer.token()
            if kid_of(token) != before.kid:
                return token
            old = token
            during.append(judged(token))
            return None

        fresh = eventually(rotated, "the issuer signs with the new key", JUDGED_WITHIN_SECONDS)
        new, old_beside_new = judged(fresh), judged(old)
        assert rotating.result().code == 0, rotating.result()

    def retired() -> set[str] | None:
        published = {key["kid"] for key in issuer.key_set().json()["keys"]}
        return None if before.kid in published else published

    published = eventually(retired, "the old key leaves the JWKS", RETIRED_WITHIN_SECONDS)
    dead_at = jwt.decode(old, options={"verify_signature": False})["exp"] + LEEWAY_SECONDS
    after_retirement = judged(issuer.token())
    eventually(lambda: time.time() > dead_at, "the leeway is over", LEEWAY_SECONDS + JUDGED_WITHIN_SECONDS)
    stranger = KeyPair()
    claims = {"iss": issuer.url, "aud": issuer.service_url}
    expired = judged(old)
    forged_with_our_kid = judged(make_token(stranger, header={"kid": new.kid}, **claims))
    of_another_issuer = judged(make_token(stranger, **claims))
    last = issuer.token()
    server.kill()
    return Record(
        before=before,
        during=during,
        new=new,
        old_beside_new=old_beside_new,
        published_at_last=published,
        after_retirement=after_retirement,
        expired=expired,
        forged_with_our_kid=forged_with_our_kid,
        of_another_issuer=of_another_issuer,
        without_the_issuer=judged(last),
    )


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


def require_accepted(token: Token, library: str) -> None:
    """Fail unless the library accepted the token by the very key that it names."""
    assert token.judgements[library] == Judgement(accepted=True, kid=token.kid)


def reason_for_refusing(token: Token, library: str) -> str:
    """Return why the library refused the token, which it must have done."""
    judgement = token.judgements[library]
    assert not judgement.accepted
    return (judgement.reason or "").lower()


def test_a_token_is_accepted_before_a_rotation(library: str, record: Record) -> None:
    require_accepted(record.before, library)


def test_every_token_is_accepted_while_an_operator_rotates(library: str, record: Record) -> None:
    assert record.during
    for token in record.during:
        require_accepted(token, library)


def test_a_token_of_the_new_key_is_accepted_at_once(library: str, record: Record) -> None:
    assert record.new.kid != record.before.kid
    require_accepted(record.new, library)


def test_a_token_of_the_old_key_is_accepted_beside_it(library: str, record: Record) -> None:
    assert record.old_beside_new.kid == record.before.kid
    require_accepted(record.old_beside_new, library)


def test_a_token_is_accepted_after_the_old_key_left_the_key_set(library: str, record: Record) -> None:
    assert record.before.kid not in record.published_at_last
    require_accepted(record.after_retirement, library)


def test_a_token_of_the_retired_key_has_expired(library: str, record: Record) -> None:
    assert "exp" in reason_for_refusing(record.expired, library)


def test_a_token_signed_by_another_key_is_refused_under_our_kid(library: str, record: Record) -> None:
    assert "signature" in reason_for_refusing(record.forged_with_our_kid, library)


def test_a_token_of_another_issuers_key_is_refused(library: str, record: Record) -> None:
    assert reason_for_refusing(record.of_another_issuer, library)


def test_a_token_is_accepted_while_the_issuer_is_down(library: str, record: Record) -> None:
    require_accepted(record.without_the_issuer, library)
