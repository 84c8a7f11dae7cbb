"""The applications of `issuer demo` in a real browser: sign the user in, call the service, sign the user out."""

import re
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from support.chromium import Visitor, chromium, visitor
from support.servers import PATIENCE_SECONDS, free_port
from support.warm_programs import PROGRAMS

from issuer.cli.demo_applications import DemoApplication


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a running demo has printed, by its labels."""
    command = [PROGRAMS.issuer, "demo"]
    ports = ["--port", str(free_port()), "--service-port", str(free_port())]
    folder = tmp_path_factory.mktemp("demo")
    with subprocess.Popen([*command, *ports], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        try:
            yield dict(re.findall(r"^([a-z ]*[a-z])  +(\S+)", "".join(lines), re.MULTILINE))
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def guest(browser: Browser) -> Iterator[Visitor]:
    with visitor(browser) as someone:
        yield someone


def sign_in(page: Page, shown: dict[str, str]) -> None:
    """Fill in the pages of the issuer."""
    page.get_by_label("Username", exact=True).fill(shown["user"])
    page.get_by_label("Password", exact=True).fill(shown["password"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "/signin" not in url)
    if "/consent" in page.url:  # the user has not allowed this application before
        page.get_by_role("button", name="Allow", exact=True).click()


@pytest.mark.parametrize("application", ["browser app", "server app"])
def test_an_application_signs_in_calls_the_service_and_signs_out(
    application: str, shown: dict[str, str], guest: Visitor
) -> None:
    page = guest.page
    page.goto(shown[application])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{shown['issuer'].removesuffix('/docs')}/signin?*")
    sign_in(page, shown)
    expect(page.locator("#user")).to_have_text("Demo User")
    expect(page.locator("#answer")).to_have_text('200 {"message":"Hello, demo"}')
    assert page.url == shown[application]
    if application == "browser app":
        page.get_by_role("button", name="Renew the access token").click()
        expect(page.locator("#answer")).to_have_text('200 {"message":"Hello, demo"}')
        expect(page.locator("#error")).to_be_empty()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    assert page.url == shown[application]
    page.goto(shown["account"])
    assert "/signin" in page.url  # signed out at the issuer as well
    assert guest.complaints == []


def test_the_application_with_a_server_learns_of_a_sign_out_elsewhere(
    shown: dict[str, str], guest: Visitor
) -> None:
    page = guest.page
    page.goto(shown["server app"])
    page.get_by_role("button", name="Sign in").click()
    sign_in(page, shown)
    expect(page.locator("#user")).to_have_text("Demo User")
    page.goto(shown["account"].replace("/account", "/signout"))
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_text("You are signed out")).to_be_visible()
    page.goto(shown["server app"])
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_a_code_of_another_tab_is_refused_by_the_page(shown: dict[str, str], guest: Visitor) -> None:
    guest.page.goto(f"{shown['browser app']}?code=stolen&state=guessed&iss=x")
    expect(guest.page.locator("#error")).to_have_text("this sign-in was not started in this tab")
    assert guest.page.url == shown["browser app"]


def test_the_docs_page_of_the_service_signs_in_in_a_window_of_its_own(
    shown: dict[str, str], guest: Visitor
) -> None:
    page = guest.page
    page.goto(shown["service"])
    page.locator(".btn.authorize").first.click()
    form = page.locator(".modal-ux .auth-container", has_text="authorizationCode with PKCE").first
    form.locator("a", has_text="select all").click()
    with page.expect_popup() as window:
        form.locator("button.authorize").click()
    sign_in(window.value, shown)
    expect(page.locator(".modal-ux button", has_text="Logout").first).to_be_visible()
    page.locator(".modal-ux .close-modal").first.click()
    operation = page.locator("[id$=protected_route_protected_route_get]")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    operation.locator(".execute").click()
    expect(operation.locator(".live-responses-table .highlight-code")).to_contain_text("Hello, demo")
    assert [each for each in guest.complaints if "Password field" not in each] == []


def test_an_application_whose_packages_are_missing_says_what_to_install() -> None:
    application = DemoApplication(
        "x", "x", 1, "/", packages=(("json", "json"), ("no_such_module", "No-Such"))
    )
    assert application.missing.endswith("python -m pip install No-Such"), application.missing
    assert not application.missing.startswith("/")
    assert DemoApplication("x", "x", 1, "/").missing == ""
