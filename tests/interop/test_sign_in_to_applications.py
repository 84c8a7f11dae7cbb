"""Applications with a third-party client sign people in at a real issuer, given its URL, an id and a secret.

The person's browser runs no JavaScript, but for the single-page application, which runs in Chromium. Libraries are
tested in `test_sign_in`.
"""

import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from interop.web_applications import (
    Registered,
    mod_auth_openidc,
    oauth2_proxy,
    service_behind,
    single_page,
    spring_boot,
)
from support.chromium import chromium, visitor
from support.components import missing_for, not_possible, program, require
from support.defaults import PASSWORD
from support.servers import Installation, eventually, free_port
from support.sign_in_browser import Page, SignInBrowser

OK = 200
GO_OF_OAUTH2_PROXY = (1, 26)
SIGNED_OUT = "/signed-out"


def register(issuer: Installation, callback: str, *options: str) -> Registered:
    """Register an application; nothing runs at its URL yet."""
    url = f"http://127.0.0.1:{free_port()}"
    uris = ("--redirect-uri", f"{url}{callback}", "--post-logout-redirect-uri", f"{url}{SIGNED_OUT}")
    own = [option.replace("@URL@", url) for option in options]
    made = issuer.command("clients", "add", "an application", *uris, *own, "--json")
    assert made.code == 0, made
    return Registered(issuer.url, url, made.document["client_id"], made.document.get("client_secret", ""))


def signed_in(browser: SignInBrowser, registered: Registered, path: str) -> Any:
    """Open a page of an application, sign in at the issuer, and return what the page shows."""
    page = browser.visit(f"{registered.url}{path}")
    assert any(url.startswith(f"{registered.issuer}/signin") for url in browser.visited)
    return shown(page, registered)


def shown(page: Page, registered: Registered) -> Any:
    assert (page.status, page.url.startswith(registered.url)) == (OK, True), (
        page.url,
        page.status,
        page.text,
    )
    return page.json


def asks_to_sign_in(browser: SignInBrowser, registered: Registered, path: str) -> bool:
    return browser.open(f"{registered.url}{path}").url.startswith(f"{registered.issuer}/signin")


@pytest.fixture
def behind_apache(signing_in: Installation) -> Iterator[Registered]:
    """A service behind Apache httpd with mod_auth_openidc; each request shows what the service was sent."""
    require("mod_auth_openidc")
    told = ("--backchannel-logout-uri", "@URL@/callback?logout=backchannel")
    registered = register(signing_in, "/callback", *told)
    with service_behind() as backend, mod_auth_openidc(registered, backend):
        yield registered


def test_apache_signs_a_person_in_refreshes_and_signs_the_person_out(behind_apache: Registered) -> None:
    with SignInBrowser() as browser:
        headers = signed_in(browser, behind_apache, "/items")
        assert headers["oidc_claim_iss"] == behind_apache.issuer
        assert headers["oidc_claim_preferred_username"] == "alice"
        assert headers["oidc_claim_email"] == "alice@example.com"
        hook = {"refresh": f"{behind_apache.url}/items", "access_token": headers["oidc_access_token"]}
        page = browser.open(f"{behind_apache.url}/callback?{urlencode(hook)}")
        refreshed = shown(page, behind_apache)
        assert refreshed["oidc_access_token"] != headers["oidc_access_token"]
        ends = urlencode({"logout": f"{behind_apache.url}{SIGNED_OUT}"})
        page = browser.open(f"{behind_apache.url}/callback?{ends}")
        assert page.url.startswith(f"{behind_apache.url}{SIGNED_OUT}")
        assert asks_to_sign_in(browser, behind_apache, "/items")


def test_apache_ends_its_session_when_the_issuer_tells_it(behind_apache: Registered) -> None:
    with SignInBrowser() as browser:
        signed_in(browser, behind_apache, "/items")
        sign_out_at_the_issuer(browser, behind_apache)
        eventually(lambda: asks_to_sign_in(browser, behind_apache, "/items"), "the application is told")


def sign_out_at_the_issuer(browser: SignInBrowser, registered: Registered) -> None:
    page = browser.open(f"{registered.issuer}/oauth2/logout")
    assert "signed out" in browser.submit(page, page.forms[0], "Sign out").text


def require_oauth2_proxy() -> None:
    """Skip the test if the program is missing because the installed Go cannot build it."""
    if missing_for("oauth2-proxy") and go_release() < GO_OF_OAUTH2_PROXY:
        not_possible("oauth2-proxy is built by a newer Go than the installed one")
    require("oauth2-proxy")


def go_release() -> tuple[int, ...]:
    """Return the release of Go, such as (1, 26, 8); an empty one if there is none."""
    go = program("go")
    if not go:
        return ()
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True)
    return tuple(int(part) for part in re.findall(r"[0-9]+", done.stdout))


def test_oauth2_proxy_signs_a_person_in_and_refreshes_and_asks_again_after_the_sign_out(
    signing_in: Installation,
) -> None:
    require_oauth2_proxy()
    registered = register(signing_in, "/oauth2/callback")
    with (
        service_behind() as backend,
        oauth2_proxy(registered, backend),
        SignInBrowser() as browser,
    ):
        headers = signed_in(browser, registered, "/items")
        assert headers["x-forwarded-email"] == "alice@example.com"
        assert headers["x-forwarded-preferred-username"] == "alice"

        def refreshed() -> bool:
            again = shown(browser.open(f"{registered.url}/items"), registered)
            return bool(again["x-forwarded-access-token"] != headers["x-forwarded-access-token"])

        eventually(refreshed, "the proxy refreshes the access token")
        back = {
            "client_id": registered.client_id,
            "post_logout_redirect_uri": f"{registered.url}{SIGNED_OUT}",
        }
        onward = urlencode({"rd": f"{registered.issuer}/oauth2/logout?{urlencode(back)}"})
        page = browser.open(f"{registered.url}/oauth2/sign_out?{onward}")
        assert page.url.startswith(f"{registered.issuer}/oauth2/logout")
        browser.submit(page, page.forms[0], "Sign out")
        assert asks_to_sign_in(browser, registered, "/items")


def test_spring_boot_signs_a_person_in_and_out_and_ends_its_session_when_the_issuer_tells_it(
    signing_in: Installation,
) -> None:
    require("Spring Boot")
    told = ("--backchannel-logout-uri", "@URL@/logout/connect/back-channel/issuer")
    registered = register(signing_in, "/login/oauth2/code/issuer", *told)
    with spring_boot(registered), SignInBrowser() as browser:
        claims = signed_in(browser, registered, "/claims")
        assert claims["id_token"]["iss"] == registered.issuer
        assert claims["userinfo"]["preferred_username"] == "alice"
        first, second = (shown(browser.open(f"{registered.url}/refreshed"), registered) for _ in range(2))
        assert first["refresh_token"] != second["refresh_token"]
        page = browser.open(f"{registered.url}/logout")
        page = browser.submit(page, page.forms[0])
        assert page.url == f"{registered.url}{SIGNED_OUT}"
        assert asks_to_sign_in(browser, registered, "/claims")
        signed_in(browser, registered, "/claims")
        sign_out_at_the_issuer(browser, registered)
        eventually(lambda: asks_to_sign_in(browser, registered, "/claims"), "the application is told")


def test_a_single_page_application_signs_a_person_in_and_out_in_a_real_browser(
    signing_in: Installation,
) -> None:
    require("oidc-client-ts")
    registered = register(signing_in, "/callback", "--auth", "none")
    with single_page(registered), chromium() as browser, visitor(browser) as guest:
        page = guest.page
        page.goto(registered.url)
        guest.press("Sign in")
        page.wait_for_url(f"{registered.issuer}/signin*")
        guest.sign_in("alice", PASSWORD)
        guest.press("Allow")
        page.wait_for_function("document.querySelector('pre')?.textContent")
        user = page.evaluate("manager.then((each) => each.getUser())")
        assert user["profile"]["preferred_username"] == "alice", page.text_content("pre")
        refreshed = page.evaluate("manager.then((each) => each.signinSilent())")
        assert refreshed["access_token"] != user["access_token"]
        assert refreshed["profile"]["sub"] == user["profile"]["sub"]
        page.evaluate("manager.then((each) => { each.signoutRedirect() })")
        page.wait_for_url(f"{registered.url}{SIGNED_OUT}*")
        guest.press("Sign in")
        page.get_by_label("Password").wait_for()
        assert guest.complaints == []
