"""The result of a verification: the claims, the expiry, and no caching beyond the key.

Which tokens are accepted is tested in `test_attacks` and `test_fuzz`, the life of keys in `test_keys`.
"""

import asyncio
from typing import Any

import pytest
from support.verifier import AUDIENCE, Clock, Forge, Judge

from jwks_verifier import AccessToken, Event, JwksCache, Reason, TokenVerifier


def test_a_verified_token_holds_the_claims_and_is_immutable(judge: Judge, forge: Forge) -> None:
    access = judge(forge.token(scope="items:read items:write"))
    assert access == AccessToken(
        subject="u1",
        client_id="first-party",
        username="alice",
        scopes=frozenset({"items:read", "items:write"}),
        issuer="https://issuer.test",
        audience=(AUDIENCE, "https://issuer.test"),
        issued_at=1_800_000_000,
        expires_at=1_800_000_600,
        jti="j1",
    )
    with pytest.raises(AttributeError):
        access.subject = "root"


def test_a_token_is_rejected_after_its_expiry_plus_the_leeway(
    judge: Judge, forge: Forge, clock: Clock
) -> None:
    token = forge.token()
    clock.advance(609.9)
    judge(token)
    clock.advance(0.1)
    assert judge.reason(token) is Reason.EXPIRED


def test_the_signature_is_verified_even_if_the_header_is_cached(judge: Judge, forge: Forge) -> None:
    judge(forge.token())
    judge(forge.token())
    assert judge.reason(forge.signed(forge.header(), forge.claims(), forge.stranger)) is Reason.SIGNATURE


def test_an_unexpected_exception_of_a_library_is_a_counted_rejection(
    judge: Judge, forge: Forge, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> bool:
        raise AttributeError("surprise")

    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", surprise)
    assert judge.reason(forge.token()) is Reason.UNEXPECTED
    assert events[-1] == (Event.REJECTED, Reason.UNEXPECTED)


def test_a_hook_that_raises_is_logged_and_rejects_no_token(
    issuer: Any, forge: Forge, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def scenario() -> AccessToken:
        async with JwksCache(issuer.url, transport=issuer.transport, on_event=broken) as cache:
            return await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())

    assert asyncio.run(scenario()).subject == "u1"
    assert "ZeroDivisionError" in caplog.text
