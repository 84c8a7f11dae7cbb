"""docs/browser.md: its lines run, its application with a server works in a browser, its module is the demo's."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect
from support.chromium import Visitor, chromium, visitor
from support.documents import DOCS, programs, sections
from support.servers import PATIENCE_SECONDS, Installation, eventually, free_port
from support.shell_lines import Lines

START = sections("start.md")
PAGE = sections("browser.md")
TEXT = (DOCS / "browser.md").read_text("utf-8")
RUNNING = ["Configure", "Start the issuer", "Add a user and a client"]
SHOP = programs("browser.md")["shop.py"]
PASSWORD = "violet otters juggle pancakes"
MODULE = DOCS.parent / "issuer" / "cli" / "demo_apps" / "page" / "oauth.js"


def test_the_lines_run(tmp_path: Path) -> None:
    text = "".join([*(START[name] for name in RUNNING), *PAGE.values()])
    port = free_port()
    replaced = {"127.0.0.1:8002": f"127.0.0.1:{port}", "--port 8002": f"--port {port}"}
    lines = Lines(text, tmp_path, replaced, {"shop.py": SHOP})
    try:
        assert "Not signed in" in lines.printed
        assert "Shop in the browser" not in lines.logs
    finally:
        lines.end()


def test_the_module_for_browsers_is_the_one_of_the_demo() -> None:
    (block,) = re.findall(r"^```javascript\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert block == MODULE.read_text("utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path) as running:
        running.serve().until_ready()
        running.command(
            "users", "add", "alice", "--name", "Alice Example", "--password-stdin", stdin=PASSWORD
        )
        yield running


@pytest.fixture
def shop(site: Installation) -> Iterator[str]:
    """The URL of the application with a server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--redirect-uri", f"{url}/callback", "--post-logout-redirect-uri", f"{url}/"]
    options += ["--backchannel-logout-uri", f"{url}/backchannel", "--scope", "items:read"]
    made = site.command("clients", "add", "Shop", *options, "--json")
    (site.folder / "shop.json").write_text(made.out)
    program = SHOP.replace("http://127.0.0.1:8000", site.url).replace("http://127.0.0.1:8002", url)
    (site.folder / "shop.py").write_text(program)
    command = [sys.executable, "-P", "-m", "uvicorn", "--app-dir", ".", "shop:app", "--port", str(port)]
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    with subprocess.Popen(command, cwd=site.folder, env=environment) as process:
        try:
            eventually(lambda: _answers(url), "the shop answers")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).is_success
    except httpx2.TransportError:
        return False


@pytest.fixture
def static_page(site: Installation) -> Iterator[str]:
    """The URL of the page that uses the module for browsers, served as files."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    returns = ["--redirect-uri", f"{url}/", "--post-logout-redirect-uri", f"{url}/"]
    made = site.command(
        "clients", "add", "Page", "--auth", "none", *returns, "--scope", "items:read", "--json"
    )
    (block,) = re.findall(r"^```html\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    folder = site.folder / "page"
    folder.mkdir()
    page = block.replace("http://127.0.0.1:8000", site.url).replace("CLIENT_ID", made.document["client_id"])
    (folder / "index.html").write_text(page)
    (folder / "oauth.js").write_text(MODULE.read_text("utf-8"))
    command = [sys.executable, "-I", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            eventually(lambda: _answers(url), "the page is served")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture
def guest() -> Iterator[Visitor]:
    with chromium() as browser, visitor(browser) as someone:
        yield someone


def test_the_application_signs_in_and_out_and_is_told_of_a_sign_out_elsewhere(
    shop: str, site: Installation, guest: Visitor
) -> None:
    page = guest.page

    def sign_in() -> None:
        page.goto(shop)
        page.get_by_role("link", name="Sign in").click()
        guest.sign_in("alice", PASSWORD)

    sign_in()
    page.get_by_role("button", name="Allow", exact=True).click()
    expect(page.get_by_text("Hello, Alice Example")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Not signed in")).to_be_visible()
    sign_in()  # consent was given before
    expect(page.get_by_text("Hello, Alice Example")).to_be_visible()
    page.goto(f"{site.url}/signout")
    guest.press("Sign out")

    def is_signed_out() -> bool:
        page.goto(shop)
        return page.get_by_text("Not signed in").is_visible()

    eventually(is_signed_out, "the issuer has told the shop")


def test_the_page_with_the_module_signs_in_and_out_and_shows_a_refusal(
    static_page: str, guest: Visitor
) -> None:
    page = guest.page
    shown = page.locator("#shown")
    page.goto(static_page)
    expect(shown).to_have_text("Not signed in")
    page.get_by_role("button", name="Sign in").click()
    guest.sign_in("alice", PASSWORD)
    page.get_by_role("button", name="Do not allow").click()
    expect(shown).to_have_text("The sign-in failed: the user did not consent")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Allow", exact=True).click()
    expect(shown).to_contain_text('"name": "Alice Example"')
    page.get_by_role("button", name="Sign out").click()
    expect(shown).to_have_text("Not signed in")
