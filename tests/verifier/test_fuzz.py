"""Differential test: strictly configured PyJWT accepts every token that the verifier accepts, with the same claims.

The mutants are made in `support.attacks.mutants`. The only difference allowed is that PyJWT accepts more.
"""

import asyncio
import json
import random
import time
from collections import Counter
from itertools import islice
from typing import Any

import jwt
import pytest
from support.attacks.mutants import Mutants
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import AccessToken, InvalidToken, JwksCache, Reason, TokenVerifier
from jwks_verifier.testing import InProcessIssuer

SHORT, LONG = 10_000, 200_000
NEVER_SIGNED_AGAIN = {"bits", "characters", "segments", "spelling"}
"""Kinds of mutants that are valid only if nothing has changed."""
REQUIRED = ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"]


class Ours:
    """The verifier with its keys, called without an event loop: within the cooldown an unknown kid awaits nothing."""

    def __init__(self, issuer: InProcessIssuer, clock: Clock) -> None:
        cache = JwksCache(issuer.url, transport=issuer.transport, monotonic=clock.monotonic)
        self._verifier = TokenVerifier(cache, AUDIENCE)
        asyncio.run(self._fetch(cache))

    @staticmethod
    async def _fetch(cache: JwksCache) -> None:
        async with cache:
            await cache.refetched()

    def __call__(self, token: str) -> AccessToken | Reason:
        try:
            self._verifier.verify(token).send(None)
        except StopIteration as end:
            access: AccessToken = end.value
            return access
        except InvalidToken as refusal:
            return refusal.reason
        raise AssertionError("it waits for a fetch within the cooldown")


class Oracle:
    """PyJWT with every check that it offers, and the reference for the claims of a token."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self._keys = jwt.PyJWKSet([forge.key.jwk])

    def __call__(self, token: str) -> dict[str, Any] | str:
        try:
            header = jwt.get_unverified_header(token)
            return jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=self._forge.issuer.url,
                leeway=10,
                options={"require": REQUIRED, "enforce_minimum_key_length": True},
            )
        except Exception as error:  # noqa: BLE001 - hostile input makes it raise whatever there is
            return type(error).__name__


def agree(access: AccessToken, claims: dict[str, Any]) -> bool:
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    return (
        access.subject,
        access.client_id,
        access.username,
        access.scopes,
        access.issuer,
        access.audience,
        access.issued_at,
        access.expires_at,
        access.jti,
    ) == (
        claims["sub"],
        claims["client_id"],
        claims.get("username"),
        frozenset(claims.get("scope", "").split()),
        claims["iss"],
        tuple(audience),
        claims["iat"],
        claims["exp"],
        claims["jti"],
    )


def test_pyjwt_accepts_every_accepted_token_with_the_same_claims(
    request: pytest.FixtureRequest, issuer: InProcessIssuer, forge: Forge, clock: Clock
) -> None:
    long = request.config.getoption("long")  # many, and always others; else few, and always the same
    seed = random.SystemRandom().randrange(2**32) if long else 0
    mutants = Mutants(forge, random.Random(seed), time.time)  # noqa: S311 - no secret
    ours, oracle = Ours(issuer, clock), Oracle(forge)
    seen: Counter[str] = Counter()
    for kind, token in islice(mutants, LONG if long else SHORT):
        judgement, opinion = ours(token), oracle(token)
        at_fault = (seed, kind, token, judgement, opinion)
        assert judgement is not Reason.UNEXPECTED, at_fault
        if isinstance(judgement, AccessToken):
            assert isinstance(opinion, dict), at_fault
            assert agree(judgement, opinion), at_fault
            assert kind not in NEVER_SIGNED_AGAIN or token in mutants.signed, at_fault
        else:
            assert token not in mutants.signed, at_fault
        accepted = isinstance(judgement, AccessToken), isinstance(opinion, dict)
        seen[
            {(True, True): "both", (False, False): "neither"}.get(accepted, f"PyJWT alone: {judgement}")
        ] += 1
        seen[f"kind: {kind}"] += 1
    print(json.dumps(seen, indent=1, sort_keys=True))  # noqa: T201 - for who runs it with -s
    assert seen["both"] > seen["kind: good"] > 0  # some mutants are good tokens, too
    assert seen["neither"] > seen["both"]


def test_a_token_is_accepted_in_one_encoding_only(
    forge: Forge, issuer: InProcessIssuer, clock: Clock
) -> None:
    ours, now = Ours(issuer, clock), int(time.time())
    token = forge.signed(forge.header(), forge.claims(iat=now, exp=now + 600))
    assert isinstance(ours(token), AccessToken)
    for at in range(len(token)):
        before, after = token[:at], token[at + 1 :]
        for changed in (before + after, f"{before}A{token[at:]}", f"{before}-{after}"):
            assert changed == token or isinstance(ours(changed), Reason), at
