"""Signing in at an issuer with https and a path, such as `https://id.example/auth`, as certification runs it."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from support.conformance import SIGNED_OUT_URI, Conformance, conformance

URL = "https://id.example/auth"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformance]:
    with conformance(tmp_path_factory.mktemp("path"), URL) as suite:
        yield suite


@pytest.fixture(params=["query", "form_post"])
def suite(request: pytest.FixtureRequest, plan: Conformance) -> Conformance:
    plan.begin(request.param)
    return plan


def test_every_page_and_endpoint_is_below_the_path(suite: Conformance) -> None:
    suite.userinfo(suite.sign_in())
    own = [url for url in suite.browser.visited if url.startswith("https://id.example/")]
    assert any(url.startswith(f"{URL}/signin?") for url in own)
    assert [url for url in own if not url.startswith(f"{URL}/")] == []
    endpoints = [value for name, value in suite.metadata.items() if name.endswith("_endpoint")]
    assert [url for url in endpoints if not url.startswith(f"{URL}/")] == []


def test_cookies_are_for_this_host_and_https_alone(suite: Conformance) -> None:
    suite.sign_in()
    cookies = list(suite.web.cookies.jar)
    assert cookies
    for cookie in cookies:
        assert cookie.name.startswith(("__Host-", "__Secure-"))
        assert (cookie.secure, cookie.domain_specified) == (True, False)
        assert cookie.has_nonstandard_attr("HttpOnly")


def test_a_person_stays_signed_in_and_signs_out(suite: Conformance) -> None:
    tokens = suite.sign_in()
    assert suite.is_signed_in()
    hint = {"id_token_hint": tokens.response["id_token"], "post_logout_redirect_uri": SIGNED_OUT_URI}
    page = suite.browser.open(f"{suite.metadata['end_session_endpoint']}?{urlencode(hint)}")
    assert page.url == SIGNED_OUT_URI
    assert not suite.is_signed_in()


def test_a_person_signs_out_on_the_page(suite: Conformance) -> None:
    suite.sign_in()
    page = suite.browser.open(f"{URL}/signout")
    assert "signed out" in suite.browser.submit(page, page.forms[0], "Sign out").text
    assert not suite.is_signed_in()


def test_the_account_page_asks_to_sign_in_and_comes_back(suite: Conformance) -> None:
    page = suite.browser.visit(f"{URL}/account")
    assert (page.url, page.status) == (f"{URL}/account", 200)
    assert "alice" in page.text


def test_links_forms_and_styles_of_a_page_are_below_the_path(suite: Conformance) -> None:
    page = suite.open(suite.request())
    assert page.path == "/auth/signin"
    assert page.targets
    assert [url for url in page.targets if not url.startswith((f"{URL}/", "data:"))] == []
    for url in page.targets:
        assert suite.web.get(url).status_code == 200, url
