"""Owns what becomes of a good token: its claims as a value, its end, and that nothing is remembered but the key.

Which tokens are accepted and refused is in `test_attacks` and `test_fuzz`, how keys come and go in
`test_verifier_keys`.
"""

import asyncio
from typing import Any

import pytest

from verifier_example.verifier import AccessToken, Event, JwksCache, Reason, TokenVerifier

AUDIENCE = "https://api.test"


def test_the_outcome_holds_the_claims_and_cannot_be_changed(judge: Any, forge: Any) -> None:
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


def test_a_token_dies_at_its_expiry_and_the_leeway(judge: Any, forge: Any, clock: Any) -> None:
    token = forge.token()
    clock.advance(609.9)
    judge(token)
    clock.advance(0.1)
    assert judge.reason(token) is Reason.EXPIRED


def test_a_remembered_header_spares_no_signature(judge: Any, forge: Any) -> None:
    judge(forge.token())
    judge(forge.token())
    assert judge.reason(forge.signed(forge.header(), forge.claims(), forge.stranger)) is Reason.SIGNATURE


def test_a_surprise_of_a_library_is_a_counted_refusal(
    judge: Any, forge: Any, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> bool:
        raise AttributeError("surprise")

    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", surprise)
    assert judge.reason(forge.token()) is Reason.UNEXPECTED
    assert events[-1] == (Event.REJECTED, Reason.UNEXPECTED)


def test_a_broken_hook_refuses_nothing_and_is_logged(
    issuer: Any, forge: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def story() -> AccessToken:
        async with JwksCache(issuer.url, transport=issuer.transport, on_event=broken) as cache:
            return await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())

    assert asyncio.run(story()).subject == "u1"
    assert "ZeroDivisionError" in caplog.text
