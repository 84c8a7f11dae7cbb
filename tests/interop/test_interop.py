"""Owns that verifiers written by others accept the issuer's tokens by its URL alone, set as docs/verifying.md has it.

All of them live through one rotation of a real server, which is `rotation`; each test reads in its record.
"""

import pytest
from interop.fetched import require
from interop.gateways import Answer, Place
from interop.judges import STACKS, Judgement
from interop.refusals import ACCEPTED, CANNOT_HURRY, OUTAGE, REFUSABLE, RETIRED
from interop.rotation import Record, Token, recorded
from support.servers import HOST, free_port

from verifier_example.testing import KeyPair, make_token

UNAUTHORIZED, FORBIDDEN = 401, 403


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")  # PyJWKClient would ask a proxy for loopback
        return recorded(tmp_path_factory.mktemp("interop"))


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


@pytest.fixture(params=[stack for stack in STACKS if stack not in CANNOT_HURRY])
def hurried(request: pytest.FixtureRequest) -> str:
    """A stack that keeps its keys for a second."""
    name: str = request.param
    require(name)
    return name


def require_accepted(token: Token, stack: str) -> None:
    """Fail unless the stack accepted the token; a library must tell that it did so by the very key named."""
    match token.said[stack]:
        case Answer() as answer:
            assert answer.accepted, answer
        case Judgement() as judgement:
            assert judgement == Judgement(accepted=True, kid=token.kid)


def require_refused(said: Judgement | Answer, because: str = "") -> None:
    """Fail unless the token was refused, by a library for that reason, by a gateway as no fault of its own."""
    match said:
        case Answer(status):
            assert status in {UNAUTHORIZED, FORBIDDEN}
        case Judgement(accepted, _, reason):
            assert not accepted
            assert because in (reason or "").lower()


def test_a_token_is_accepted_before_a_rotation(stack: str, record: Record) -> None:
    require_accepted(record.before, stack)


def test_every_token_is_accepted_while_an_operator_rotates(stack: str, record: Record) -> None:
    assert record.during
    for token in record.during:
        require_accepted(token, stack)


def test_a_token_of_the_new_key_is_accepted_at_once(stack: str, record: Record) -> None:
    assert record.new.kid != record.before.kid
    require_accepted(record.new, stack)


def test_a_token_of_the_old_key_is_accepted_beside_it(stack: str, record: Record) -> None:
    assert record.old_beside_new.kid == record.before.kid
    require_accepted(record.old_beside_new, stack)


def test_a_token_is_accepted_after_the_old_key_left_the_key_set(stack: str, record: Record) -> None:
    assert record.before.kid not in record.published_at_last
    require_accepted(record.after_retirement, stack)


def test_a_token_of_the_retired_key_has_expired(stack: str, record: Record) -> None:
    require_refused(record.expired.said[stack], because="exp")


def test_a_token_signed_by_another_key_is_refused_under_our_kid(stack: str, record: Record) -> None:
    require_refused(record.forged_with_our_kid.said[stack], because="signature")


def test_a_token_of_another_issuers_key_is_refused(stack: str, record: Record) -> None:
    require_refused(record.of_another_issuer.said[stack])


@pytest.mark.parametrize("wrong", REFUSABLE)
def test_a_wrong_token_is_refused_but_where_the_page_says_otherwise(
    wrong: str, stack: str, record: Record
) -> None:
    said = record.wrong[wrong][stack]
    if wrong in ACCEPTED[stack]:
        assert said.accepted
    else:
        require_refused(said)


def test_a_thief_of_a_retired_key_is_refused_once_the_keys_were_fetched_again(
    hurried: str, record: Record
) -> None:
    said = record.of_the_retired_key.said[hurried]
    if RETIRED in ACCEPTED[hurried]:
        assert said.accepted
    else:
        require_refused(said)


def test_a_token_is_accepted_while_the_issuer_is_down(stack: str, record: Record) -> None:
    require_accepted(record.without_the_issuer, stack)


def test_what_becomes_of_a_long_outage_is_what_the_page_says(hurried: str, record: Record) -> None:
    assert record.long_without_the_issuer.said[hurried].accepted == (OUTAGE in ACCEPTED[hurried])


@pytest.mark.parametrize(
    ("gateway", "status"), [("Envoy", 401), ("nginx", 500), ("mod_oauth2", 401), ("mod_auth_openidc", 401)]
)
def test_a_gateway_that_never_had_keys_lets_nobody_in(gateway: str, status: int) -> None:
    require(gateway)
    issuer, service = (f"http://{HOST}:{free_port()}" for _ in range(2))
    token = make_token(KeyPair(), iss=issuer, aud=service)
    with STACKS[gateway](Place(issuer, service)) as judge:
        assert judge.judge(token) == Answer(status)
