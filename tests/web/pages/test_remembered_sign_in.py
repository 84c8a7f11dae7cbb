"""`/signin`: users who choose to stay signed in on their device."""

import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app
from support.defaults import ALICE, PASSWORD, Build, MovableClock
from support.page_forms import fields_of, send, session_of, sign_in

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

CHOSEN = {"remember": "on"}


def cookie_of(answer: Any) -> str:
    """Return the session cookie that a response sets."""
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith("issuer-session=")]
    return str(cookie)


def test_nobody_is_remembered_without_choosing_it(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    assert not CHOSEN.keys() & fields_of(web.get("/signin").text).keys()
    assert "Max-Age" not in cookie_of(sign_in(web, **ALICE))
    session = session_of(web, issuer)
    assert session
    assert (session.user_id, session.expires_at) == (alice, clock() + timedelta(hours=12))


def test_who_chooses_it_stays_signed_in_for_a_month_also_unused_and_with_the_browser_closed(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    answer = sign_in(web, **ALICE, **CHOSEN)
    assert re.search(r"; Max-Age=2592000;", cookie_of(answer)), answer.headers
    clock.advance(days=29)
    session = session_of(web, issuer)
    assert session
    assert session.user_id == alice
    assert [each.id for each in issuer.sessions.store.active(alice, clock())[0]] == [session.id]
    clock.advance(days=1)
    assert session_of(web, issuer) is None
    assert issuer.sessions.store.active(alice, clock()) == ([], [])


def test_the_choice_is_kept_when_the_user_has_to_sign_in_again_and_can_be_taken_back(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    sign_in(web, **ALICE, **CHOSEN)
    again = web.get("/signin?reason=login").text
    assert fields_of(again)["remember"] == "on"
    answer = send(web, "/signin", again, password=PASSWORD)
    assert "Max-Age=2592000" in cookie_of(answer)
    taken_back = fields_of(web.get("/signin?reason=login").text)
    del taken_back["remember"]
    answer = web.post("/signin", data={**taken_back, "password": PASSWORD}, follow_redirects=False)
    assert "Max-Age" not in cookie_of(answer)
    session = session_of(web, issuer)
    assert session
    assert (session.user_id, session.expires_at) == (alice, clock() + timedelta(hours=12))


def test_a_wrong_password_keeps_the_choice_in_the_form(web: TestClient, alice: str) -> None:
    refused = sign_in(web, ALICE["username"], "a wrong password", **CHOSEN)
    assert refused.status_code == 401, alice
    assert fields_of(refused.text)["remember"] == "on"


def test_a_choice_that_was_taken_back_stays_so_after_a_wrong_password(web: TestClient, alice: str) -> None:
    sign_in(web, **ALICE, **CHOSEN)
    form = fields_of(web.get("/signin?reason=login").text)
    del form["remember"]
    refused = web.post("/signin", data={**form, "password": "a wrong password"}, follow_redirects=False)
    assert refused.status_code == 401, alice
    assert "remember" not in fields_of(refused.text)


def test_the_choice_is_not_passed_on_to_another_account(web: TestClient, alice: str) -> None:
    sign_in(web, **ALICE, **CHOSEN)
    assert alice
    assert "remember" not in fields_of(web.get("/signin?reason=switch").text)


def test_what_ends_with_a_session_ends_no_later_when_the_choice_is_taken_back(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    app = an_app(issuer)
    sign_in(web, **ALICE, **CHOSEN)
    tokens = app.redeems(web, app.code(web)).json()
    form = fields_of(web.get("/signin?reason=login").text)
    del form["remember"]
    web.post("/signin", data={**form, "password": PASSWORD}, follow_redirects=False)
    clock.advance(hours=13)
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], **app.credentials}
    assert web.post("/oauth2/token", data=refresh).json()["error"] == "invalid_grant", alice


@pytest.mark.parametrize("remembered", [timedelta(0), timedelta(days=7)])
def test_a_setting_that_is_lowered_later_counts_for_sessions_that_are_remembered(
    made: Build, settings: Settings, clock: MovableClock, remembered: timedelta
) -> None:
    before = made(settings)
    with TestClient(create_app(before)) as web:
        web.post("/users", json=ALICE)
        sign_in(web, **ALICE, **CHOSEN)
        cookies = web.cookies
    after = made(settings.model_copy(update={"browser_session_remembered": remembered}))
    with TestClient(create_app(after), cookies=cookies) as web:
        clock.advance(hours=1)
        form = web.get("/account/password").text
        new = "seven lazy walruses yodel"
        answer = send(web, "/account/password", form, password=PASSWORD, new_password=new)
        assert ("Max-Age" in cookie_of(answer)) is bool(remembered)
        session = session_of(web, after)
        assert session
        clock.advance(hours=3)
        assert (session_of(web, after) is None) is not bool(remembered)
        clock.advance(days=7)
        assert session_of(web, after) is None
        assert after.sessions.store.active(session.user_id, clock()) == ([], [])


def test_a_change_of_the_password_keeps_the_choice(web: TestClient, alice: str, issuer: Issuer) -> None:
    sign_in(web, **ALICE, **CHOSEN)
    form = web.get("/account/password").text
    new = "seven lazy walruses yodel"
    answer = send(web, "/account/password", form, password=PASSWORD, new_password=new)
    assert "Max-Age=2592000" in cookie_of(answer)
    session = session_of(web, issuer)
    assert session
    assert (session.user_id, session.is_remembered) == (alice, True)


def test_where_nobody_may_be_remembered_the_choice_is_not_offered_and_has_no_effect(
    made: Build, settings: Settings, clock: MovableClock
) -> None:
    issuer = made(settings.model_copy(update={"browser_session_remembered": timedelta(0)}))
    with TestClient(create_app(issuer)) as web:
        web.post("/users", json=ALICE)
        assert "remember" not in web.get("/signin").text
        assert "Max-Age" not in cookie_of(sign_in(web, **ALICE, **CHOSEN))
        session = session_of(web, issuer)
        assert session
        assert session.expires_at == clock() + timedelta(hours=12)
