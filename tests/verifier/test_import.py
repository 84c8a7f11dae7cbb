"""Import of keys: a usable key is used, for its own algorithm only; unusable ones are in `support.attacks.keys`."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import Event, InvalidToken, JwksCache, TokenVerifier
from jwks_verifier.jwk import import_key
from jwks_verifier.testing import InProcessIssuer, KeyPair

pytestmark = pytest.mark.anyio
Events = list[tuple[Event, str]]


def count(events: Events, kind: Event) -> int:
    return sum(event is kind for event, _ in events)


async def test_unusable_keys_do_not_affect_the_usable_one(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Forge, pairs: list[KeyPair], events: Events
) -> None:
    class Member:
        def __init__(self, jwk: Any) -> None:
            self.jwk = jwk

    bad: list[Any] = [None, 7, [], {"kty": []}, {**pairs[1].jwk, "use": "enc"}, {**pairs[2].jwk, "kid": 5}]
    issuer.keys = [*map(Member, bad), pairs[0]]  # type: ignore[list-item]
    async with verifier.cache:
        await verifier.verify(forge.token())
    assert count(events, Event.KEY_SKIPPED) == len(bad)


async def test_two_different_keys_with_one_kid_are_both_dropped(
    cache: JwksCache, issuer: InProcessIssuer, pairs: list[KeyPair], events: Events
) -> None:
    impostor = KeyPair(pairs[2].private)
    impostor.jwk["kid"] = pairs[1].kid
    issuer.keys = [pairs[0], pairs[1], impostor]
    async with cache:
        assert set((await cache.refetched()).by_kid) == {pairs[0].kid}
    assert count(events, Event.KEY_SKIPPED) == 1


def public(private: Any, algorithm: Any, **changes: Any) -> dict[str, Any]:
    jwk = {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": "k", **changes}
    jwk.pop("key_ops", None)
    return jwk


@pytest.mark.parametrize(
    ("alg", "private", "algorithm"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048), RSAAlgorithm),
        ("PS256", rsa.generate_private_key(65537, 3072), RSAAlgorithm),
        ("ES256", ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
    ],
)
@pytest.mark.parametrize("named", [True, False])
async def test_a_key_verifies_signatures_of_its_own_algorithm_only(
    alg: str, private: Any, algorithm: Any, *, named: bool
) -> None:
    jwk = public(private, algorithm, **({"alg": alg} if named else {}))
    key = import_key(jwk, [alg])
    signer = jwt.get_algorithm_by_name(alg)
    signature = signer.sign(b"payload", private)
    assert key.Algorithm.verify(b"payload", key.key, signature)
    for wrong in (signature[:-1], signature + b"\0", b"\0" + signature, b""):
        assert not key.Algorithm.verify(b"payload", key.key, wrong)
    assert not key.Algorithm.verify(b"another", key.key, signature)
    with pytest.raises(ValueError, match="another algorithm"):
        import_key(jwk, ["ES256" if alg == "EdDSA" else "EdDSA"])


async def test_a_token_that_names_another_algorithm_than_its_key_is_rejected(
    issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    async with JwksCache(issuer.url, transport=issuer.transport, algorithms=["PS256", "RS256"]) as cache:
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
        await verifier.verify(forge.token())
        with pytest.raises(InvalidToken):
            await verifier.verify(forge.token({"alg": "PS256"}))
