"""The result of a verification: the claims, the expiry, and no caching beyond the key.

Which tokens are accepted is tested in `test_attacks` and `test_fuzz`, the life of keys in `test_keys`.
"""

import asyncio
import errno
import json
from typing import Any

import pytest
from pydantic import BaseModel
from support.verifier import AUDIENCE, Clock, Forge, Judge

from jwks_verifier import AccessToken, Claims, Event, JwksCache, Reason, TokenVerifier


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
        claims=Claims(forge.claims(scope="items:read items:write")),
    )
    with pytest.raises(AttributeError):
        access.subject = "root"  # type: ignore[misc]


def test_all_claims_are_there_and_immutable_at_any_depth(judge: Judge, forge: Forge) -> None:
    own = {"sid": "s1", "realm": {"roles": ["admin", {"of": ["x"]}]}, "level": 1.5, "nothing": None}
    token = forge.signed(forge.header(), {**forge.claims(), **own})
    claims = judge(token).claims
    assert dict(claims) == {
        **forge.claims(),
        **own,
        "aud": tuple(forge.claims()["aud"]),
        "realm": claims["realm"],
    }
    assert claims["realm"]["roles"] == ("admin", Claims({"of": ["x"]}))
    assert (claims == judge(token).claims) is (hash(claims) == hash(judge(token).claims)) is True
    for level in (claims, claims["realm"], claims["realm"]["roles"], claims["realm"]["roles"][1]):
        with pytest.raises(TypeError):
            level[0] = "root"  # type: ignore[index]
    with pytest.raises(AttributeError):
        claims.extra = "root"  # type: ignore[attr-defined]


def test_claims_are_copied_for_json_and_the_copy_changes_nothing(judge: Judge, forge: Forge) -> None:
    own = {"realm": {"roles": ["admin", {"of": ["x"]}]}}
    claims = judge(forge.token(**own)).claims
    copied = claims.as_dict()
    assert json.loads(json.dumps(copied)) == forge.claims(**own)
    copied["realm"]["roles"].append("root")
    assert claims.as_dict() == forge.claims(**own)


def test_claims_fill_a_model_of_the_services_own(judge: Judge, forge: Forge) -> None:
    class Realm(BaseModel):
        roles: list[str]

    class Mine(BaseModel):
        aud: list[str]
        realm: Realm

    claims = judge(forge.token(realm={"roles": ["admin"]})).claims
    assert Mine.model_validate(dict(claims)).realm == Realm(roles=["admin"])


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


@pytest.mark.parametrize(
    "shortage",
    [MemoryError(), OSError(errno.EMFILE, "too many files"), RuntimeError("can't start new thread")],
)
def test_a_shortage_is_raised_as_it_is_and_rejects_no_token(
    judge: Judge, forge: Forge, events: list[Any], monkeypatch: pytest.MonkeyPatch, shortage: Exception
) -> None:
    def fail(*_: object) -> bool:
        raise shortage

    with monkeypatch.context() as patched:
        patched.setattr("jwt.algorithms.RSAAlgorithm.verify", fail)
        with pytest.raises(type(shortage)) as raised:
            judge(forge.token())
    assert raised.value is shortage
    assert not [event for event, _ in events if event is Event.REJECTED]
    assert judge(forge.token()).subject == "u1"


def test_a_shortage_during_an_import_of_keys_keeps_the_old_keys(
    verifier: TokenVerifier, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    async def scenario() -> None:
        async with verifier.cache as cache:
            before = await cache.refetched()
            forge.issuer.keys.append(forge.stranger)
            monkeypatch.setattr("jwks_verifier.jwk._check_numbers", fail)
            await cache.refresh()
            assert cache.usable is before

    asyncio.run(scenario())


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
