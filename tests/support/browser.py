"""A headless Chromium for tests: opens a page, runs scripts in it, and returns its console messages."""

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


@contextmanager
def page() -> Iterator[Page]:
    """Yield an empty page of a browser that ends with the block; skip the test if none is installed."""
    require("Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = subprocess.Popen(
            ["chromium", *QUIET, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_page_url(Path(folder)), max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


def _page_url(folder: Path) -> str:
    """Return the URL of the first tab's debugger, once the browser has written its port to a file."""
    deadline, port_file = time.monotonic() + START_SECONDS, folder / "DevToolsActivePort"
    while time.monotonic() < deadline:
        if port_file.exists() and (port := port_file.read_text().partition("\n")[0]):
            tabs = httpx2.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            for tab in tabs:
                if tab["type"] == "page":
                    url: str = tab["webSocketDebuggerUrl"]
                    return url
        time.sleep(POLL_SECONDS)
    pytest.fail("the browser did not start")
