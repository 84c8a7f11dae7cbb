"""Chromium controlled by playwright, for tests of pages: visitors, pictures of pages, checks of accessibility.

Only one process of it runs, with a context of its own, as cookies are, for each visitor.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.components import INTEROP, program, require

OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--host-resolver-rules=MAP *.test 127.0.0.1")
AXE = INTEROP / "pages/node_modules/axe-core/axe.min.js"
PICTURES = "PAGE_PICTURES"
"""The environment variable that names a folder for pictures of pages."""
NARROW, WIDE = {"width": 320, "height": 640}, {"width": 1280, "height": 800}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless browser; skip the test if none is installed."""
    require("Chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program("chromium"), args=[*OPTIONS])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Visitor:
    """A person with a browser profile of their own."""

    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, such as violations of the security policy."""

    def fill(self, **fields: str) -> None:
        """Type into fields by their labels."""
        for label, text in fields.items():
            self.page.get_by_label(label, exact=True).fill(text)

    def press(self, button: str) -> None:
        """Press a button, and wait for the page that it leads to."""
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.wait_for_load_state()

    def sign_in(self, username: str, password: str) -> None:
        """Fill in and send the sign-in form."""
        self.fill(Username=username, Password=password)
        self.press("Sign in")

    def error(self) -> str:
        """Return what the page says is wrong."""
        return self.page.get_by_role("alert").inner_text()

    def picture(self, name: str) -> None:
        """Store a picture of the page, if the environment names a folder for it."""
        if folder := os.environ.get(PICTURES):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def overflows(self) -> bool:
        """Return whether the page has to be scrolled sideways."""
        wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(self.page.evaluate(wider))

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page, at the levels A and AA of WCAG 2.2 and as best practice."""
        require("axe-core")
        # By the debugger: the policy of the page forbids scripts.
        self.page.evaluate(AXE.read_text("utf-8"))
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {each['help']}: {node['html']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


@contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[Visitor]:
    """Yield a visitor; `options` are those of playwright's `new_context`."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(20_000)
    guest = Visitor(context, context.new_page())

    def note(page: Page) -> None:
        page.on("console", lambda message: guest.complaints.append(message.text))

    note(guest.page)
    context.on("page", note)
    yield guest
    context.close()
