"""Owns one rotation of a real issuer, lived through by every stack that is here, and the record of what they said.

What they should have said is told in `test_interop`, what the wrong tokens are in `refusals`.
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
from interop.fetched import lack
from interop.gateways import Answer, Place
from interop.judges import STACKS, Judge, Judgement
from interop.refusals import CANNOT_HURRY, REFUSABLE
from support.servers import Installation, Server, eventually, kid_of

from verifier_example.testing import KeyPair, make_token

LEEWAY_SECONDS = 10
"""For how long after its end the verifiers accept a token, at most."""
SHORT_CACHE_SECONDS = 1
# In seconds: a key leaves the JWKS 3 + 4 + 1 after it was superseded.
SETTINGS = {
    "ISSUER_NODE_TIMEOUT": "3s",
    "ISSUER_OUTAGE_LIMIT": "3s",
    "ISSUER_CLOCK_SKEW": "1s",
    "ISSUER_ACCESS_TOKEN_LIFETIME": "4s",
}

Said = Mapping[str, Judgement | Answer]


class Token(NamedTuple):
    """A token, and what each stack said of it."""

    kid: str
    said: Said


Ask = Callable[[str], Token]


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
    wrong: Mapping[str, Said]
    """By the names in `REFUSABLE`."""
    of_the_retired_key: Token
    """Live, and judged by stacks whose keys are older than they may be; so is the last."""
    without_the_issuer: Token
    long_without_the_issuer: Token


def stolen(issuer: Installation, kid: str) -> KeyPair:
    """Return a key pair of the issuer, as whoever reads its folder has it."""
    private = load_pem_private_key((issuer.keys / f"{kid}.pem").read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    return KeyPair(private)


@contextmanager
def everybody(place: Place, *, hurried: bool = False) -> Iterator[Ask]:
    """Start every stack that is here, or, hurried, those that can keep keys for so short a time."""
    with ExitStack() as ends:
        judges: dict[str, Judge] = {
            name: ends.enter_context(make(place))
            for name, make in STACKS.items()
            if lack(name) is None and not (hurried and name in CANNOT_HURRY)
        }
        yield lambda token: Token(
            jwt.get_unverified_header(token)["kid"],
            {name: judge.judge(token) for name, judge in judges.items()},
        )


def recorded(folder: Path) -> Record:
    """Live through a rotation, with the keys kept as the page has it and, beside that, for a second."""
    with Installation(folder, **SETTINGS) as issuer:
        server, service = issuer.serve().until_ready(), issuer.serve_service()
        service.until_ready()
        place = Place(issuer.url, issuer.service_url)
        shortly = place._replace(cache_seconds=SHORT_CACHE_SECONDS)
        with everybody(place) as judged, everybody(shortly, hurried=True) as judged_by_hurried:
            return rotate_once(issuer, server, judged, judged_by_hurried)


def rotate_once(issuer: Installation, server: Server, judged: Ask, judged_by_hurried: Ask) -> Record:
    """Rotate while every token of the issuer is judged as soon as it is made; stop the issuer at last."""
    old = issuer.token()
    retired = stolen(issuer, kid_of(old))
    claims = {"iss": issuer.url, "aud": issuer.service_url}
    judged_by_hurried(old)
    before, during, new, old = rotate(issuer, judged, old)
    old_beside_new = judged(old)
    published = retirement(issuer, before.kid)
    after_retirement = judged(issuer.token())
    wait_until(jwt.decode(old, options={"verify_signature": False})["exp"] + LEEWAY_SECONDS + 1)
    expired = judged(old)
    of_the_retired_key = judged_by_hurried(make_token(retired, **claims))
    ours, stranger = stolen(issuer, new.kid), KeyPair()
    forged_with_our_kid = judged(make_token(stranger, header={"kid": new.kid}, **claims))
    of_another_issuer = judged(make_token(stranger, **claims))
    wrong = {name: judged(make(ours, claims)).said for name, make in REFUSABLE.items()}
    judged_by_hurried(make_token(ours, **claims))
    last = issuer.token()
    server.kill()
    without_the_issuer = judged(last)
    wait_until(time.time() + 2 * SHORT_CACHE_SECONDS)
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
        wrong=wrong,
        of_the_retired_key=of_the_retired_key,
        without_the_issuer=without_the_issuer,
        long_without_the_issuer=judged_by_hurried(make_token(ours, **claims)),
    )


def rotate(issuer: Installation, judged: Ask, old: str) -> tuple[Token, list[Token], Token, str]:
    """Rotate, and return the tokens from before, meanwhile and after it, and the last of the old key."""
    before = judged(old)
    during: list[Token] = []
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

        new = judged(eventually(rotated, "the issuer signs with the new key"))
        assert rotating.result().code == 0, rotating.result()
    return before, during, new, old


def retirement(issuer: Installation, kid: str) -> set[str]:
    """Wait until the key has left the JWKS, and return those that are in it."""

    def retired() -> set[str] | None:
        published = {key["kid"] for key in issuer.key_set().json()["keys"]}
        return None if kid in published else published

    return eventually(retired, "the old key leaves the JWKS")


def wait_until(moment: float) -> None:
    """Wait for a moment that is not far."""
    eventually(lambda: time.time() > moment, "time passes")
