"""Third-party verifiers accept the issuer's tokens, given only its URL and configured as in docs/verifying.md.

All of them take part in one rotation of a real server, in `rotation`; the tests read its record.
"""

import pytest
from interop.gateways import Answer, Place
from interop.invalid_tokens import ACCEPTED, FIXED_CACHE, INVALID, OUTAGE, RETIRED
from interop.rotation import Record, Token, record_rotation
from interop.verifiers import STACKS, Verdict
from support.components import require
from support.servers import HOST, free_port

from jwks_verifier.testing import KeyPair, make_token

UNAUTHORIZED, FORBIDDEN = 401, 403


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")  # PyJWKClient would ask a proxy for loopback
        return record_rotation(tmp_path_factory.mktemp("interop"))


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


@pytest.fixture(params=[stack for stack in STACKS if stack not in FIXED_CACHE])
def short_cache(request: pytest.FixtureRequest) -> str:
    """A stack that caches keys for a second."""
    name: str = request.param
    require(name)
    return name


def require_accepted(token: Token, stack: str) -> None:
    """Fail unless the stack accepted the token; a library must report the kid of the token."""
    match token.results[stack]:
        case Answer() as answer:
            assert answer.accepted, answer
        case Verdict() as verdict:
            assert verdict == Verdict(accepted=True, kid=token.kid)


def require_rejected(result: Verdict | Answer, because: str = "") -> None:
    """Fail unless the token was rejected: by a library for that reason, by a gateway with 401 or 403."""
    match result:
        case Answer(status):
            assert status in {UNAUTHORIZED, FORBIDDEN}
        case Verdict(accepted, _, reason):
            assert not accepted
            assert because in (reason or "").lower()


def test_a_token_is_accepted_before_a_rotation(stack: str, record: Record) -> None:
    require_accepted(record.before, stack)


def test_every_token_is_accepted_during_a_manual_rotation(stack: str, record: Record) -> None:
    assert record.during
    for token in record.during:
        require_accepted(token, stack)


def test_a_token_of_the_new_key_is_accepted_immediately(stack: str, record: Record) -> None:
    assert record.new.kid != record.before.kid
    require_accepted(record.new, stack)


def test_a_token_of_the_old_key_is_still_accepted_after_the_rotation(stack: str, record: Record) -> None:
    assert record.old_beside_new.kid == record.before.kid
    require_accepted(record.old_beside_new, stack)


def test_a_token_is_accepted_after_the_old_key_has_left_the_key_set(stack: str, record: Record) -> None:
    assert record.before.kid not in record.published_finally
    require_accepted(record.after_retirement, stack)


def test_a_token_of_the_retired_key_is_rejected_as_expired(stack: str, record: Record) -> None:
    require_rejected(record.expired.results[stack], because="exp")


def test_a_token_signed_with_another_key_under_the_issuers_kid_is_rejected(
    stack: str, record: Record
) -> None:
    require_rejected(record.forged_with_our_kid.results[stack], because="signature")


def test_a_token_signed_with_an_unknown_key_is_rejected(stack: str, record: Record) -> None:
    require_rejected(record.of_another_issuer.results[stack])


@pytest.mark.parametrize("wrong", INVALID)
def test_an_invalid_token_is_rejected_except_where_documented(wrong: str, stack: str, record: Record) -> None:
    result = record.wrong[wrong][stack]
    if wrong in ACCEPTED[stack]:
        assert result.accepted
    else:
        require_rejected(result)


def test_a_token_forged_with_a_retired_key_is_rejected_after_the_cache_lifetime(
    short_cache: str, record: Record
) -> None:
    result = record.of_the_retired_key.results[short_cache]
    if RETIRED in ACCEPTED[short_cache]:
        assert result.accepted
    else:
        require_rejected(result)


def test_a_token_is_accepted_while_the_issuer_is_down(stack: str, record: Record) -> None:
    require_accepted(record.without_the_issuer, stack)


def test_the_behaviour_in_a_long_outage_is_the_documented_one(short_cache: str, record: Record) -> None:
    assert record.long_without_the_issuer.results[short_cache].accepted == (OUTAGE in ACCEPTED[short_cache])


@pytest.mark.parametrize(
    ("gateway", "status"), [("Envoy", 401), ("nginx", 500), ("mod_oauth2", 401), ("mod_auth_openidc", 401)]
)
def test_a_gateway_without_keys_rejects_every_token(gateway: str, status: int) -> None:
    require(gateway)
    issuer, service = (f"http://{HOST}:{free_port()}" for _ in range(2))
    token = make_token(KeyPair(), iss=issuer, aud=service)
    with STACKS[gateway](Place(issuer, service)) as verifier:
        assert verifier.verify(token) == Answer(status)
