"""A headless Chromium for tests: opens pages, runs scripts in them, and returns their console messages."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from support.components import require

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--no-proxy-server",
)  # fmt: skip
START_SECONDS = 120.0
POLL_SECONDS = 0.1


class Page:
    """One tab, controlled through the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[str] = []
        """Errors and warnings of the console, including violations of the security policy."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Open a URL."""
        self._ask("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Run a script in the page, and return its result."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Run a script until its result is true, and return the result; fail after the time limit."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, (script, self.complaints, self.run("document.body.innerText"))
            time.sleep(POLL_SECONDS)
        return found

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(START_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: Any) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        if message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning"}:
            self.complaints.append(json.dumps(parameters["args"]))


class Browser:
    """A running browser, whose pages share its cookies."""

    def __init__(self, port: str) -> None:
        self._url = f"http://127.0.0.1:{port}/json"

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Yield an empty page in a tab of its own, which is closed with the block."""
        tab = httpx2.put(f"{self._url}/new?about:blank", trust_env=False).json()
        try:
            with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            httpx2.get(f"{self._url}/close/{tab['id']}", trust_env=False)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Yield a browser that ends with the block; skip the test if none is installed."""
    require("Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = subprocess.Popen(
            ["chromium", *QUIET, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Browser(_port(Path(folder)))
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


@contextmanager
def page() -> Iterator[Page]:
    """Yield an empty page of a browser of its own."""
    with running_browser() as browser, browser.page() as opened:
        yield opened


def _port(folder: Path) -> str:
    """Return the port of the debugger, once the browser has written it to a file and answers."""
    deadline, port_file = time.monotonic() + START_SECONDS, folder / "DevToolsActivePort"
    while time.monotonic() < deadline:
        if port_file.exists() and (port := port_file.read_text().partition("\n")[0]):
            tabs = httpx2.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            if any(tab["type"] == "page" for tab in tabs):
                return port
        time.sleep(POLL_SECONDS)
    pytest.fail("the browser did not start")
