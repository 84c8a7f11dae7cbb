"""`/reset`: a user chooses a password with a link of an operator."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.authorizing import sign_in
from support.defaults import ALICE, MovableClock
from support.page_forms import fields_of, send
from support.page_forms import sign_in as sign_in_by_page

from issuer.accounts.user import User
from issuer.oauth import InvalidGrant
from issuer.services import Issuer

NEW = "nine herons paint quietly"


@pytest.fixture
def user(issuer: Issuer, alice: str) -> User:
    user = issuer.accounts.store.by_id(alice)
    assert user
    return user


@pytest.fixture
def link(issuer: Issuer, user: User) -> str:
    return f"/reset?token={issuer.administration.reset_links.token(user, issuer.clock())}"


def submitted(web: TestClient, link: str, new: str = NEW, **headers: str) -> Any:
    """Fill in the page of a link, and return the response to the form."""
    page = web.get(link)
    assert page.status_code == 200, page.text
    return send(web, "/reset", page.text, headers, new_password=new)


def test_a_link_sets_a_password_once_and_ends_all_sessions(
    web: TestClient, link: str, issuer: Issuer, user: User
) -> None:
    session = sign_in(web, issuer, user.id)
    answer = submitted(web, link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?reason=password_changed")
    assert "Your password was changed." in web.get(answer.headers["location"]).text
    assert session not in issuer.sessions.store.active(user.id, issuer.clock())[0]
    assert sign_in_by_page(web, "alice", ALICE["password"]).status_code == 401
    assert sign_in_by_page(web, "alice", NEW).headers["location"] == "/account"
    used = web.get(link)
    assert used.status_code == 400
    assert "This link is not valid" in used.text
    assert "Ask the operator" in used.text
    assert "/forgot" not in used.text


def test_password_managers_see_whose_password_it_is(web: TestClient, link: str) -> None:
    page = web.get(link)
    assert fields_of(page.text)["username"] == "alice"
    assert 'autocomplete="new-password"' in page.text
    assert page.headers["cache-control"] == "no-store"


def test_a_link_expires_after_an_hour(web: TestClient, link: str, clock: MovableClock) -> None:
    page = web.get(link).text
    clock.advance(minutes=60)
    assert web.get(link).status_code == 400
    assert send(web, "/reset", page, new_password=NEW).status_code == 400
    assert sign_in_by_page(web, **ALICE).headers["location"] == "/account"


@pytest.mark.parametrize("token", ["", "x", "WyJ4Il0.x"])
def test_any_other_text_is_no_link(web: TestClient, token: str) -> None:
    assert web.get("/reset", params={"token": token}).status_code == 400


def test_a_link_of_a_disabled_account_is_not_valid(
    web: TestClient, link: str, issuer: Issuer, user: User
) -> None:
    issuer.tokens.families.disable(user.id, issuer.clock())
    assert web.get(link).status_code == 400


def test_a_refused_password_is_explained_and_the_link_stays_valid(web: TestClient, link: str) -> None:
    answer = submitted(web, link, "short")
    assert answer.status_code == 400
    assert "at least 12 characters" in answer.text
    assert submitted(web, link).status_code == 303


def test_a_form_of_another_site_changes_nothing(web: TestClient, link: str) -> None:
    assert submitted(web, link, **{"Sec-Fetch-Site": "cross-site"}).status_code == 400
    assert web.get(link).status_code == 200


def test_of_two_requests_with_one_link_one_changes_the_password(
    issuer: Issuer, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, now = issuer.administration.reset_links, issuer.clock()
    token, real = links.token(user, now), issuer.accounts.passwords.hash

    def overtaken(password: str) -> str:
        monkeypatch.setattr(issuer.accounts.passwords, "hash", real)
        links.set_password(token, NEW, now)
        return real(password)

    monkeypatch.setattr(issuer.accounts.passwords, "hash", overtaken)
    with pytest.raises(InvalidGrant):
        links.set_password(token, "another quiet heron paints", now)
    stored = issuer.accounts.store.by_id(user.id)
    assert stored
    assert issuer.accounts.passwords.verify(NEW, stored.password_hash) is None


# Invitations


@pytest.fixture
def invited(issuer: Issuer) -> User:
    return issuer.administration.invitations.invite("bob", issuer.clock())


def link_of(issuer: Issuer, user: User, **valid: float) -> str:
    token = issuer.administration.reset_links.token(user, issuer.clock(), timedelta(**valid or {"hours": 1}))
    return f"/reset?token={token}"


def test_an_invited_user_is_welcomed_chooses_a_password_and_signs_in(
    web: TestClient, issuer: Issuer, invited: User
) -> None:
    link = link_of(issuer, invited)
    page = web.get(link).text
    assert "<h1>Welcome</h1>" in page
    assert "All its sessions end" not in page
    assert sign_in_by_page(web, "bob", NEW).status_code == 401
    answer = submitted(web, link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?reason=welcome")
    assert "Your account is ready." in web.get(answer.headers["location"]).text
    assert sign_in_by_page(web, "bob", NEW).headers["location"] == "/account"
    assert web.get(link).status_code == 400
    assert "Welcome" not in web.get(link).text


def test_another_invitation_voids_the_link_of_the_first(
    web: TestClient, issuer: Issuer, invited: User
) -> None:
    first = link_of(issuer, invited)
    second = link_of(issuer, issuer.administration.invitations.invite("bob", issuer.clock()))
    assert [web.get(link).status_code for link in (first, second)] == [400, 200]


def test_a_link_is_valid_for_as_long_as_asked_also_over_the_end_of_a_month(
    web: TestClient, issuer: Issuer, invited: User, clock: MovableClock
) -> None:
    clock.advance(days=30)  # to the last day of the month
    link = link_of(issuer, invited, days=28)
    clock.advance(days=28, seconds=-1)
    assert web.get(link).status_code == 200
    clock.advance(seconds=1)
    assert web.get(link).status_code == 400
