"""What happens during a request of the sign-in: it counts, or the request starts again; never both, and no 500."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.authorizing import App, an_app, answer, page, sign_in
from support.defaults import ALICE, PASSWORD, Build, MovableClock
from support.page_forms import fields_of

from issuer.authorize.consent import ConsentState
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.web.app import create_app
from issuer.web.pages.browser import cookie_name

NEW = "nine calm bisons whisper"
OFFLINE = "openid items:read offline_access"


@pytest.fixture
def issuer(url: str, made: Build, settings: Settings, clock: MovableClock) -> Issuer:
    """An issuer with each kind of database, by the true time."""
    clock.now = datetime.now(UTC)
    return made(settings.model_copy(update={"database_url": SecretStr(url)}))


@pytest.fixture
def web(issuer: Issuer) -> Iterator[TestClient]:
    with TestClient(create_app(issuer), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def session(web: TestClient, issuer: Issuer, alice: str) -> BrowserSession:
    return sign_in(web, issuer, alice)


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return [each.result() for each in [pool.submit(act) for act in acts]]


def is_refreshed(web: TestClient, app: App, redeemed: Any) -> bool:
    form = {"grant_type": "refresh_token", "refresh_token": redeemed.json()["refresh_token"]}
    return web.post("/oauth2/token", data={**form, **app.credentials}).status_code == 200


def test_of_fifty_redemptions_at_once_one_succeeds(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """RFC 6749 section 4.1.2, RFC 9700 section 4.5: and as they come from the client itself, its session stays."""
    app = an_app(issuer)
    code = app.code(web)
    answers = at_once(*[lambda: app.redeems(web, code)] * 50)
    assert sorted(each.status_code for each in answers) == [200] + [400] * 49
    assert {each.json()["error"] for each in answers if each.status_code == 400} == {"invalid_grant"}
    assert is_refreshed(web, app, next(each for each in answers if each.status_code == 200))
    assert session


def ended(issuer: Issuer, session: BrowserSession) -> None:
    issuer.sessions.sign_out.end(session, issuer.clock())


def password_changed(issuer: Issuer, session: BrowserSession) -> None:
    user = issuer.accounts.store.by_id(session.user_id)
    assert user
    issuer.administration.own_account.change_password(user, session, PASSWORD, NEW, Origin(), issuer.clock())


def deleted(issuer: Issuer, session: BrowserSession) -> None:
    user = issuer.accounts.store.by_id(session.user_id)
    assert user
    issuer.administration.own_account.delete(user, PASSWORD, Origin(), issuer.clock())


def disabled(issuer: Issuer, session: BrowserSession) -> None:
    issuer.tokens.families.disable(session.user_id, issuer.clock())


ENDS = [ended, password_changed, deleted, disabled]


@pytest.mark.parametrize("end", ENDS)
def test_no_session_outlives_what_ends_it_during_the_redemption(
    web: TestClient, issuer: Issuer, session: BrowserSession, end: Callable[[Issuer, BrowserSession], None]
) -> None:
    scope = "openid items:read" if end is ended else OFFLINE
    apps = [an_app(issuer) for _ in range(4)]
    codes = [app.code(web, scope=scope) for app in apps]
    redeems = [
        lambda app=app, code=code: app.redeems(web, code) for app, code in zip(apps, codes, strict=True)
    ]
    *answers, _ = at_once(*redeems, lambda: end(issuer, session))
    for app, answered in zip(apps, answers, strict=True):
        assert answered.status_code in {200, 400}, answered.text
        assert answered.status_code == 400 or not is_refreshed(web, app, answered)
    assert {app.redeems(web, code).status_code for app, code in zip(apps, codes, strict=True)} == {400}


def test_no_session_outlives_the_withdrawal_of_consent(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    app = an_app(issuer)
    codes = [app.code(web, scope=OFFLINE) for _ in range(4)]
    redeems = [lambda code=code: app.redeems(web, code) for code in codes]
    withdraw = issuer.authorize.consents.withdraw
    *answers, _ = at_once(*redeems, lambda: withdraw(session.user_id, app.client_id, issuer.clock()))
    for answered in answers:
        assert answered.status_code in {200, 400}, answered.text
        assert answered.status_code == 400 or not is_refreshed(web, app, answered)


@pytest.mark.parametrize("left", [frozenset[str](), frozenset({"openid", "items:read"})])
def test_a_code_is_not_issued_for_consent_that_is_withdrawn_during_the_request(
    web: TestClient,
    issuer: Issuer,
    session: BrowserSession,
    monkeypatch: pytest.MonkeyPatch,
    left: frozenset[str],
) -> None:
    app, claims = an_app(issuer, is_trusted=False), {"claims": '{"userinfo": {"email": null}}'}
    web.cookies.set("issuer_device", "d" * 43, domain="testserver.local", path="/")
    _, given = page(app.asks(web, **claims))
    form = fields_of(web.get("/consent", params=given).text)
    assert web.post("/consent", data={**form, "decision": "allow"}, follow_redirects=False).status_code == 303
    assert app.code(web, **claims)
    consents = issuer.authorize.consents
    covers, withdrawals = consents.covers, [session.user_id]

    def covers_before_a_withdrawal(*args: Any) -> ConsentState:
        found = covers(*args)
        while withdrawals:
            user_id = withdrawals.pop()
            consents.withdraw(user_id, app.client_id, issuer.clock())
            if left:
                consents.give(user_id, args[1], left, issuer.clock(), issuer.clock())
        return found

    monkeypatch.setattr(consents, "covers", covers_before_a_withdrawal)
    path, _ = page(app.asks(web, **claims))
    assert path == "/signin"
    assert page(app.asks(web, **claims))[0] == "/consent"


@pytest.mark.parametrize("end", ENDS)
def test_requests_during_the_end_of_a_session_are_answered(
    web: TestClient, issuer: Issuer, session: BrowserSession, end: Callable[[Issuer, BrowserSession], None]
) -> None:
    apps = [an_app(issuer) for _ in range(4)]
    pages = ["/account", "/signin", "/signout"]
    asks = [lambda app=app: app.asks(web, prompt="none") for app in apps]
    gets = [lambda path=path: web.get(path, follow_redirects=False) for path in pages]
    *answers, _ = at_once(*asks, *gets, lambda: end(issuer, session))
    assert all(each.status_code < 500 for each in answers), [each.status_code for each in answers]
    for each in answers[:4]:
        answered = answer(each)
        assert "code" in answered or answered["error"] == "login_required"


def test_two_sign_ins_with_one_cookie_leave_one_secret(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """Session fixation: whoever holds the cookie from before is signed in with neither of the new ones."""
    cookie = cookie_name(issuer.settings.url)
    before = web.cookies[cookie]
    web.cookies.set("issuer_device", "d" * 43, domain="testserver.local", path="/")
    form = {**fields_of(web.get("/signin?reason=login").text), **ALICE}
    sends = [lambda: web.post("/signin", data=form, follow_redirects=False)] * 4
    secrets = [each.cookies.get(cookie) for each in at_once(*sends)]
    found = {issuer.sessions.store.find(each, issuer.clock()) for each in secrets if each}
    assert issuer.sessions.store.find(before, issuer.clock()) is None
    assert {each.id for each in found if each} == {session.id}


def test_a_deletion_during_a_consent_leaves_nothing(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    app = an_app(issuer, is_trusted=False)
    web.cookies.set("issuer_device", "d" * 43, domain="testserver.local", path="/")
    _, given = page(app.asks(web))
    form = {**fields_of(web.get("/consent", params=given).text), "decision": "allow"}
    sends = [lambda: web.post("/consent", data=form, follow_redirects=False)] * 3
    *answers, _ = at_once(*sends, lambda: deleted(issuer, session))
    assert all(each.status_code < 500 for each in answers), [each.text for each in answers]
    assert issuer.authorize.consents.of_user(session.user_id) == ([], [])


@pytest.mark.parametrize("prompt", [None, "none"])
@pytest.mark.parametrize("end", [ended, deleted, disabled])
def test_a_session_that_ends_before_the_code_is_stored_gives_none(
    web: TestClient,
    issuer: Issuer,
    session: BrowserSession,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Issuer, BrowserSession], None],
    prompt: str | None,
) -> None:
    app, sid = an_app(issuer), issuer.sessions.store.sid

    def sid_after_the_end(of: BrowserSession, client_id: str) -> str:
        end(issuer, of)
        return sid(of, client_id)

    monkeypatch.setattr(issuer.sessions.store, "sid", sid_after_the_end)
    asked = app.asks(web, prompt=prompt)
    assert session
    if prompt:
        assert answer(asked)["error"] == "login_required"
    else:
        path, parameters = page(asked)
        assert (path, parameters["reason"]) == ("/signin", "session_ended")
