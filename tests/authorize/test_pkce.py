"""PKCE: which challenges are accepted, and which verifiers belong to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.authorizing import VERIFIER, challenge

from issuer.authorize.pkce import is_verified, requested_challenge
from issuer.oauth import InvalidRequest

# RFC 7636 appendix B.
EXAMPLE = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
EXAMPLE_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_example_of_the_standard_is_verified() -> None:
    assert requested_challenge(EXAMPLE_CHALLENGE, "S256", is_required=True) == EXAMPLE_CHALLENGE
    assert is_verified(EXAMPLE_CHALLENGE, EXAMPLE)


@pytest.mark.parametrize(
    ("sent", "method"),
    [
        (EXAMPLE_CHALLENGE, None),
        (EXAMPLE_CHALLENGE, "plain"),
        (EXAMPLE_CHALLENGE, "s256"),
        (EXAMPLE_CHALLENGE, "S512"),
        (EXAMPLE_CHALLENGE[:-1], "S256"),
        (EXAMPLE_CHALLENGE + "=", "S256"),
        (EXAMPLE_CHALLENGE + "\n", "S256"),
        (EXAMPLE_CHALLENGE.replace("-", "+"), "S256"),
        (None, "S256"),
        (None, None),
    ],
)
def test_anything_but_a_challenge_by_s256_is_refused(sent: str | None, method: str | None) -> None:
    with pytest.raises(InvalidRequest):
        requested_challenge(sent, method, is_required=True)


def test_without_a_challenge_a_request_is_valid_only_where_none_is_required() -> None:
    assert requested_challenge(None, None, is_required=False) is None
    with pytest.raises(InvalidRequest, match="code_challenge is missing"):
        requested_challenge(None, "S256", is_required=False)


@pytest.mark.parametrize("length", [43, 128])
def test_a_verifier_has_43_to_128_characters(length: int) -> None:
    verifier = "v" * length
    assert is_verified(challenge(verifier), verifier)
    for other in ("v" * 42, "v" * 129):
        assert not is_verified(challenge(other), other)


@pytest.mark.parametrize("verifier", ["é" * 43, "v" * 42 + "\n", "v" * 42 + "=", "v" * 42 + " ", ""])
def test_a_verifier_of_other_characters_is_refused(verifier: str) -> None:
    assert not is_verified(challenge(verifier), verifier)


@given(st.text(alphabet="abcXYZ019-._~", min_size=43, max_size=128))
def test_no_other_verifier_belongs_to_a_challenge(other: str) -> None:
    assert is_verified(challenge(), other) == (other == VERIFIER)


def test_a_verifier_needs_a_challenge_and_a_challenge_a_verifier() -> None:
    assert is_verified(None, None)
    assert not is_verified(None, VERIFIER)
    assert not is_verified(challenge(), None)
