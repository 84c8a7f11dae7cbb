"""The pages in Chromium: what only a real browser shows. One browser and one issuer serve all tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from playwright.sync_api import Browser, Route
from pydantic import SecretStr
from support.authorizing import VERIFIER, App, an_app
from support.callbacks import Callback, client_server
from support.chromium import NARROW, WIDE, Visitor, chromium, visitor
from support.defaults import ALICE, PASSWORD, MovableClock
from support.servers import free_port
from support.web_server import serving

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.web.app import create_app
from issuer.wiring import build

pytestmark = pytest.mark.processes
BOB = {"username": "bob", "password": "seven lazy walruses yodel"}


@dataclass(frozen=True)
class World:
    """An issuer on loopback, a browser, and the servers of two clients."""

    issuer: Issuer
    clock: MovableClock
    browser: Browser
    local: Callback
    """A program on this computer."""
    site: Callback
    """A site with TLS and a name."""

    @property
    def url(self) -> str:
        return self.issuer.settings.url

    def app(self, client: Callback, **options: Any) -> App:
        """Register a client with its server."""
        return an_app(self.issuer, **{"redirect_uris": [client.uri], **options})

    def request(self, app: App, client: Callback, **changes: str) -> str:
        """Return the URL of an authorization request."""
        return f"{self.url}/oauth2/authorize?{urlencode(app.request(redirect_uri=client.uri, **changes))}"

    def redeem(self, app: App, client: Callback) -> dict[str, Any]:
        """Redeem the code that a client received last, as its server does; return the tokens."""
        received = client.received[-1]
        form = {
            "grant_type": "authorization_code",
            "code": received["code"],
            "redirect_uri": client.uri,
            "code_verifier": VERIFIER,
            **app.credentials,
        }
        with httpx2.Client(trust_env=False) as http:
            tokens: dict[str, Any] = http.post(f"{self.url}/oauth2/token", data=form).json()
        return tokens


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("chromium")
    port, clock = free_port(), MovableClock()
    settings = Settings(
        url=f"http://127.0.0.1:{port}",
        database_url=SecretStr(f"sqlite:///{folder}/issuer.db"),
        keys=str(folder / "keys"),
        keys_passphrase=SecretStr("a passphrase for tests"),
        name="Accounts of Acme",
    )
    issuer = build(settings, clock)
    for user in (ALICE, BOB):
        issuer.accounts.registration.register(**user, origin=Origin(), now=clock())
    with (
        serving(create_app(issuer), port),
        client_server() as local,
        client_server(folder, "app.test") as site,
        chromium() as browser,
    ):
        yield World(issuer, clock, browser, local, site)
    issuer.close()


@pytest.fixture
def guest(world: World) -> Iterator[Visitor]:
    world.local.onward = world.site.onward = ""
    with visitor(world.browser) as guest:
        yield guest


def test_signing_in_leads_to_the_application_with_a_code_that_it_redeems(
    world: World, guest: Visitor
) -> None:
    """Also that the browser sends `Origin` with the form: `Referrer-Policy: no-referrer` would make it `null`."""
    sent: list[str | None] = []
    guest.page.on(
        "request",
        lambda each: sent.append(each.all_headers().get("origin")) if each.method == "POST" else None,
    )
    app = world.app(world.site)
    guest.page.goto(world.request(app, world.site))
    assert guest.page.get_by_text("an app (app.test:").is_visible()
    guest.sign_in(**ALICE)
    guest.page.wait_for_url(f"{world.site.uri}?*")
    assert sent == [world.url]
    assert {"access_token", "id_token", "refresh_token"} <= world.redeem(app, world.site).keys()
    assert guest.complaints == []


def test_a_wrong_password_is_told_and_the_name_kept(world: World, guest: Visitor) -> None:
    guest.page.goto(f"{world.url}/signin")
    guest.sign_in("alice", "not the password")
    assert guest.page.title() == "Error: Sign in - Accounts of Acme"
    assert guest.error() == "The username or the password is wrong."
    assert guest.page.get_by_label("Username").input_value() == "alice"
    password = guest.page.get_by_label("Password")
    assert password.input_value() == ""
    assert password.evaluate("each => each === document.activeElement")
    guest.sign_in(**ALICE)
    assert guest.page.url == f"{world.url}/account"


def test_without_scripts_everything_works(world: World) -> None:
    app = world.app(world.local, is_trusted=False)
    with visitor(world.browser, java_script_enabled=False) as guest:
        guest.page.goto(world.request(app, world.local, response_mode="form_post"))
        guest.sign_in(**ALICE)
        guest.press("Allow")
        guest.page.get_by_role("button").click()
        guest.page.wait_for_url(world.local.uri)
    assert world.redeem(app, world.local)["access_token"]


@pytest.mark.parametrize("response_mode", ["query", "form_post"])
def test_the_answer_may_go_on_to_a_program_or_another_port(
    world: World, guest: Visitor, response_mode: str
) -> None:
    """CSP `form-action` would be checked against each of these redirects."""
    app = world.app(world.site, is_trusted=False)
    world.site.onward = f"{world.local.base}/arrived"
    guest.page.goto(world.request(app, world.site, response_mode=response_mode))
    guest.sign_in(**ALICE)
    guest.press("Allow")
    guest.page.wait_for_url(world.site.onward)
    assert "code" in world.site.received[-1]
    # A program that the operating system would start; the browser of the tests has none, and stays.
    world.site.onward = "cursor://anysphere.cursor-mcp/oauth/callback?code=1"
    before = len(world.site.received)
    world.clock.advance(minutes=1)
    guest.page.goto(world.request(app, world.site, prompt="login"))
    guest.fill(Password=PASSWORD)
    with guest.page.expect_event("requestfailed"):
        guest.page.get_by_role("button", name="Sign in").click(no_wait_after=True)
    assert len(world.site.received) == before + 1
    assert [each for each in guest.complaints if "Content Security Policy" in each] == []


def test_a_policy_that_names_form_targets_would_stop_those_answers(world: World, guest: Visitor) -> None:
    """That the browser of the tests can tell: the test above would prove nothing otherwise."""
    app = world.app(world.site)
    world.site.onward = f"{world.local.base}/arrived"

    def strict(route: Route) -> None:
        answer = route.fetch()
        policy = answer.headers["content-security-policy"] + f"; form-action 'self' {world.site.base}"
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": policy})

    guest.page.goto(world.request(app, world.site))
    guest.page.route(
        "**/signin?*", strict, times=1
    )  # routes see no redirects, so the page is loaded once more
    guest.page.reload()
    guest.fill(Username="alice", Password=PASSWORD)
    with guest.page.expect_console_message(lambda each: "form-action" in each.text):
        guest.page.get_by_role("button", name="Sign in").click(no_wait_after=True)


def test_two_tabs_with_two_applications_both_finish(world: World, guest: Visitor) -> None:
    first, second = world.app(world.site), world.app(world.local)
    other = guest.context.new_page()
    guest.page.goto(world.request(first, world.site))
    other.goto(world.request(second, world.local))
    guest.sign_in(**ALICE)
    guest.page.wait_for_url(f"{world.site.uri}?*")
    # The form of the second tab is older than the session: the user is offered to go on with that.
    other.get_by_label("Username").fill("alice")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.get_by_role("button", name="Continue as alice").click()
    other.wait_for_url(f"{world.local.uri}?*")
    for app, client in ((first, world.site), (second, world.local)):
        assert world.redeem(app, client)["access_token"]


def test_the_back_button_leads_to_a_page_that_goes_on(world: World, guest: Visitor) -> None:
    app = world.app(world.local)
    guest.page.goto(world.request(app, world.local))
    guest.sign_in(**ALICE)
    guest.page.wait_for_url(f"{world.local.uri}?*")
    before = len(world.local.received)
    guest.page.go_back()
    guest.press("Continue as alice")
    guest.page.wait_for_url(f"{world.local.uri}?*")
    assert len(world.local.received) == before + 1
    assert world.redeem(app, world.local)["access_token"]


def test_a_form_that_is_sent_twice_signs_in(world: World, guest: Visitor) -> None:
    guest.page.goto(world.request(world.app(world.local), world.local))
    guest.fill(Username="alice", Password=PASSWORD)
    guest.page.get_by_role("button", name="Sign in").dblclick()
    guest.page.wait_for_url(f"{world.local.uri}?*")
    guest.page.goto(f"{world.url}/account")
    assert guest.page.get_by_role("heading", name="Your account").is_visible()


def test_a_session_that_has_ended_asks_for_the_password_again(world: World, guest: Visitor) -> None:
    guest.page.goto(f"{world.url}/signin")
    guest.sign_in(**ALICE)
    guest.page.goto(f"{world.url}/account")
    assert guest.page.get_by_role("heading", name="Your account").is_visible()
    world.clock.advance(hours=3)
    guest.page.reload()
    assert guest.page.url == f"{world.url}/signin"
    guest.sign_in(**ALICE)
    assert guest.page.url == f"{world.url}/account"


def test_another_user_of_the_browser_signs_in_instead(world: World, guest: Visitor) -> None:
    guest.page.goto(f"{world.url}/signin")
    guest.sign_in(**ALICE)
    guest.page.goto(f"{world.url}/signin")
    guest.page.get_by_role("link", name="Use another account").click()
    guest.sign_in(**BOB)
    assert guest.page.locator("dd").first.inner_text() == "bob"


@pytest.mark.parametrize(("scheme", "size"), [("dark", NARROW), ("light", WIDE)], ids=["dark", "light"])
def test_each_page_can_be_read_and_used_by_all(world: World, scheme: str, size: dict[str, int]) -> None:
    """Contrast, labels, targets and the like by axe-core; nothing is wider than the screen."""
    app = world.app(world.site, is_trusted=False)
    with visitor(world.browser, viewport=size, color_scheme=scheme) as guest:
        found: dict[str, list[str]] = {}

        def look(name: str) -> None:
            guest.picture(f"{name}-{scheme}-{size['width']}")
            found[name] = [*guest.violations(), *(["too wide"] if guest.overflows() else ())]

        guest.page.goto(f"{world.url}/", wait_until="load")
        look("home")
        guest.page.goto(world.request(app, world.site))
        look("signin")
        guest.sign_in("alice", "not the password")
        look("signin-error")
        guest.page.get_by_role("link", name="Create one").click()
        look("signup")
        guest.fill(Username="alice", Password="short")
        guest.press("Create account")
        look("signup-error")
        guest.page.goto(
            world.request(app, world.site, scope="openid profile email items:read", prompt="consent")
        )
        guest.sign_in(**ALICE)
        look("consent")
        guest.press("Allow")
        for name in (
            "signin",
            "account",
            "account/profile",
            "account/password",
            "account/delete",
            "signout",
            "consent",
            "nowhere",
        ):
            guest.page.goto(f"{world.url}/{name}", wait_until="load")
            look(f"signed-in-{name.replace('/', '-')}")
        guest.page.goto(f"{world.url}/oauth2/authorize?client_id=unknown")
        look("unknown-client")
        assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_keyboard_reaches_everything_in_order_and_the_focus_shows(world: World, guest: Visitor) -> None:
    guest.page.goto(f"{world.url}/signin")
    reached = []
    for _ in range(5):
        reached.append(guest.page.evaluate("document.activeElement.name || document.activeElement.innerText"))
        style = "getComputedStyle(document.activeElement).outlineWidth"
        assert guest.page.evaluate(style) == "3px"
        guest.page.keyboard.press("Tab")
    assert reached == ["username", "password", "remember", "Sign in", "Create one"]
