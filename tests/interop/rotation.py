"""One rotation of a real issuer with all installed stacks, and the record of their results.

Expected results are in `test_interop`, invalid tokens in `invalid_tokens`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from interop.gateways import Answer, Place
from interop.invalid_tokens import FIXED_CACHE, INVALID
from interop.verifiers import STACKS, StackVerifier, Verdict
from support.components import missing_for
from support.servers import Installation, Server, eventually, kid_of

from jwks_verifier.testing import KeyPair, make_token

LEEWAY_SECONDS = 10
"""For how long after its expiry a verifier accepts a token, at most."""
SHORT_CACHE_SECONDS = 1
# In seconds: a key leaves the JWKS 3 + 4 + 1 after it was superseded.
SETTINGS = {
    "ISSUER_NODE_TIMEOUT": "3s",
    "ISSUER_OUTAGE_LIMIT": "3s",
    "ISSUER_CLOCK_SKEW": "1s",
    "ISSUER_ACCESS_TOKEN_LIFETIME": "4s",
}

Results = Mapping[str, Verdict | Answer]


class Token(NamedTuple):
    """The kid of a token, and the result of each stack for it."""

    kid: str
    results: Results


Ask = Callable[[str], Token]


class Record(NamedTuple):
    """The results for tokens of each stage of a rotation."""

    before: Token
    during: list[Token]
    new: Token
    old_beside_new: Token
    published_finally: set[str]
    after_retirement: Token
    expired: Token
    forged_with_our_kid: Token
    of_another_issuer: Token
    wrong: Mapping[str, Results]
    """By the names in `INVALID`."""
    of_the_retired_key: Token
    """Unexpired, for stacks whose cached keys have passed their lifetime; likewise the last field."""
    without_the_issuer: Token
    long_without_the_issuer: Token


def key_pair_of(issuer: Installation, kid: str) -> KeyPair:
    """Return a key pair of the issuer, from its key folder."""
    private = load_pem_private_key((issuer.keys / f"{kid}.pem").read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    return KeyPair(private)


@contextmanager
def installed_stacks(place: Place, *, short_cache: bool = False) -> Iterator[Ask]:
    """Start every installed stack, or with `short_cache` those whose cache lifetime can be short."""
    with ExitStack() as ends:
        verifiers: dict[str, StackVerifier] = {
            name: ends.enter_context(make(place))
            for name, make in STACKS.items()
            if missing_for(name) is None and not (short_cache and name in FIXED_CACHE)
        }
        yield lambda token: Token(
            jwt.get_unverified_header(token)["kid"],
            {name: verifier.verify(token) for name, verifier in verifiers.items()},
        )


def record_rotation(folder: Path) -> Record:
    """Record a rotation with the documented cache lifetime and, at the same time, with one of a second."""
    with Installation(folder, **SETTINGS) as issuer:
        server, service = issuer.serve().until_ready(), issuer.serve_service()
        service.until_ready()
        place = Place(issuer.url, issuer.service_url)
        shortly = place._replace(cache_seconds=SHORT_CACHE_SECONDS)
        with (
            installed_stacks(place) as verify,
            installed_stacks(shortly, short_cache=True) as verify_with_short_cache,
        ):
            return rotate_once(issuer, server, verify, verify_with_short_cache)


def rotate_once(issuer: Installation, server: Server, verify: Ask, verify_with_short_cache: Ask) -> Record:
    """Rotate while every token of the issuer is verified as soon as it is issued; stop the issuer at the end."""
    old = issuer.token()
    retired = key_pair_of(issuer, kid_of(old))
    claims = {"iss": issuer.url, "aud": issuer.service_url}
    verify_with_short_cache(old)
    before, during, new, old = rotate(issuer, verify, old)
    old_beside_new = verify(old)
    published = until_retired(issuer, before.kid)
    after_retirement = verify(issuer.token())
    wait_until(jwt.decode(old, options={"verify_signature": False})["exp"] + LEEWAY_SECONDS + 1)
    expired = verify(old)
    of_the_retired_key = verify_with_short_cache(make_token(retired, **claims))
    ours, stranger = key_pair_of(issuer, new.kid), KeyPair()
    forged_with_our_kid = verify(make_token(stranger, header={"kid": new.kid}, **claims))
    of_another_issuer = verify(make_token(stranger, **claims))
    wrong = {name: verify(make(ours, claims)).results for name, make in INVALID.items()}
    verify_with_short_cache(make_token(ours, **claims))
    last = issuer.token()
    server.kill()
    without_the_issuer = verify(last)
    wait_until(time.time() + 2 * SHORT_CACHE_SECONDS)
    return Record(
        before=before,
        during=during,
        new=new,
        old_beside_new=old_beside_new,
        published_finally=published,
        after_retirement=after_retirement,
        expired=expired,
        forged_with_our_kid=forged_with_our_kid,
        of_another_issuer=of_another_issuer,
        wrong=wrong,
        of_the_retired_key=of_the_retired_key,
        without_the_issuer=without_the_issuer,
        long_without_the_issuer=verify_with_short_cache(make_token(ours, **claims)),
    )


def rotate(issuer: Installation, verify: Ask, old: str) -> tuple[Token, list[Token], Token, str]:
    """Rotate, and return the tokens before, during and after it, and the last one of the old key."""
    before = verify(old)
    during: list[Token] = []
    with ThreadPoolExecutor(1) as operator:
        rotating = operator.submit(issuer.command, "keys", "rotate")

        def rotated() -> str | None:
            nonlocal old
            token = issuer.token()
            if kid_of(token) != before.kid:
                return token
            old = token
            during.append(verify(token))
            return None

        new = verify(eventually(rotated, "the issuer signs with the new key"))
        assert rotating.result().code == 0, rotating.result()
    return before, during, new, old


def until_retired(issuer: Installation, kid: str) -> set[str]:
    """Wait until the key has left the JWKS, and return the remaining kids."""

    def retired() -> set[str] | None:
        published = {key["kid"] for key in issuer.key_set().json()["keys"]}
        return None if kid in published else published

    return eventually(retired, "the old key leaves the JWKS")


def wait_until(moment: float) -> None:
    """Wait until an instant in the near future."""
    eventually(lambda: time.time() > moment, "time passes")
