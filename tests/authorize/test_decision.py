"""The next step of an authorization request: what may be missing, and that a step which was taken counts."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.authorization import a_request
from support.stores import NOW

from issuer.authorize.decision import Ask, Decision, Facts, IssueCode, Page, Reason, Refuse, next_step
from issuer.authorize.request import AuthorizationRequest, Prompt
from issuer.oauth import ErrorCode
from issuer.sessions.session import BrowserSession

MINUTE = timedelta(minutes=1)
ALICE, BOB = "alice's id", "bob's id"


def session(at: datetime = NOW - MINUTE, chosen_at: datetime | None = None) -> BrowserSession:
    return BrowserSession(
        id="a session",
        user_id=ALICE,
        auth_time=at,
        chosen_at=chosen_at or at,
        acr="1",
        amr=("pwd",),
        created_at=at,
        seen_at=at,
        expires_at=at + timedelta(hours=12),
    )


OLD, FRESH = session(), session(NOW + MINUTE)
"""Sessions of a user who signed in before and after the request began, at NOW."""


def wanting(*prompts: Prompt, **changes: object) -> AuthorizationRequest:
    return replace(a_request(), prompt=frozenset(prompts), **changes)  # type: ignore[arg-type]


def decided(
    request: AuthorizationRequest,
    of: BrowserSession | None,
    *,
    needs_consent: bool = False,
    now: datetime = NOW + 2 * MINUTE,
) -> Decision:
    return next_step(request, Facts(of, lambda _session: needs_consent, NOW, now))


def refused(decision: Decision) -> ErrorCode:
    assert isinstance(decision, Refuse)
    return decision.error.code


@pytest.mark.parametrize(
    ("request_", "of", "asked"),
    [
        (wanting(), None, Ask(Page.SIGN_IN)),
        (wanting(Prompt.CREATE), None, Ask(Page.SIGN_UP)),
        (wanting(Prompt.CREATE), OLD, Ask(Page.SIGN_UP)),
        (wanting(Prompt.LOGIN), OLD, Ask(Page.SIGN_IN, Reason.LOGIN)),
        (wanting(Prompt.SELECT_ACCOUNT), OLD, Ask(Page.SIGN_IN, Reason.SELECT_ACCOUNT)),
        (wanting(max_age=timedelta(0)), OLD, Ask(Page.SIGN_IN, Reason.MAX_AGE)),
        (wanting(max_age=2 * MINUTE), OLD, Ask(Page.SIGN_IN, Reason.MAX_AGE)),
        (wanting(expected_user=BOB), OLD, Ask(Page.SIGN_IN, Reason.OTHER_ACCOUNT)),
        (wanting(expected_user=BOB), FRESH, Ask(Page.SIGN_IN, Reason.OTHER_ACCOUNT)),
        (wanting(Prompt.LOGIN, expected_user=BOB), OLD, Ask(Page.SIGN_IN, Reason.OTHER_ACCOUNT)),
    ],
)
def test_the_user_is_asked_to_sign_in_for_what_is_missing(
    request_: AuthorizationRequest, of: BrowserSession | None, asked: Ask
) -> None:
    assert decided(request_, of) == asked
    assert decided(request_, of, needs_consent=True) == asked, "consent is asked of the right user only"


@pytest.mark.parametrize(
    ("request_", "of"),
    [
        (wanting(), OLD),
        (wanting(Prompt.NONE), OLD),
        (wanting(Prompt.LOGIN), FRESH),
        (wanting(Prompt.CREATE), FRESH),
        (wanting(Prompt.LOGIN, Prompt.CONSENT, Prompt.SELECT_ACCOUNT), FRESH),
        (wanting(Prompt.SELECT_ACCOUNT), session(OLD.auth_time, chosen_at=NOW)),
        (wanting(max_age=3 * MINUTE), OLD),
        (wanting(max_age=timedelta(0)), FRESH),
        (wanting(max_age=timedelta(seconds=1)), FRESH),
        (wanting(expected_user=ALICE), OLD),
        (wanting(essential_acr=("2", "1")), OLD),
    ],
)
def test_a_user_who_is_signed_in_as_needed_gets_a_code_or_is_asked_for_consent(
    request_: AuthorizationRequest, of: BrowserSession
) -> None:
    assert decided(request_, of) == IssueCode(of)
    if Prompt.NONE not in request_.prompt:
        assert decided(request_, of, needs_consent=True) == Ask(Page.CONSENT)


@pytest.mark.parametrize(
    ("changes", "of", "needs_consent", "code"),
    [
        ({}, None, False, ErrorCode.LOGIN_REQUIRED),
        ({}, None, True, ErrorCode.LOGIN_REQUIRED),
        ({}, OLD, True, ErrorCode.CONSENT_REQUIRED),
        ({"max_age": MINUTE}, OLD, False, ErrorCode.LOGIN_REQUIRED),
        ({"max_age": timedelta(0)}, OLD, False, ErrorCode.LOGIN_REQUIRED),
        ({"expected_user": BOB}, OLD, False, ErrorCode.LOGIN_REQUIRED),
    ],
)
def test_with_prompt_none_no_page_is_shown(
    changes: dict[str, object], of: BrowserSession | None, needs_consent: bool, code: ErrorCode
) -> None:
    assert refused(decided(wanting(Prompt.NONE, **changes), of, needs_consent=needs_consent)) is code


@pytest.mark.parametrize("of", [None, OLD, FRESH])
def test_an_essential_acr_that_cannot_be_reached_is_refused_at_once(of: BrowserSession | None) -> None:
    code = refused(decided(wanting(essential_acr=("2", "phr")), of))
    assert code is ErrorCode.UNMET_AUTHENTICATION_REQUIREMENTS


def test_a_short_max_age_does_not_ask_again_while_the_user_reads_the_consent_page() -> None:
    request = wanting(max_age=timedelta(seconds=1))
    later = NOW + timedelta(minutes=30)
    assert decided(request, FRESH, needs_consent=True, now=later) == Ask(Page.CONSENT)
    assert decided(request, FRESH, now=later) == IssueCode(FRESH)
