"""Takes the picture of the sign-in page in the documents, light and dark, in a real Chromium.

    python -P docs/sign_in_picture.py --write

It starts an issuer with temporary data. Nothing else of the documents is made here; see `pictures` and `reference`.
"""

import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, sync_playwright

from issuer.administration.clients import register_client
from issuer.cli.ports import free_port
from issuer.clock import system_clock
from issuer.oauth import AuthMethod
from issuer.settings.settings import Settings
from issuer.wiring import build

PICTURE = Path(__file__).parent / "sign-in.png"
WIDTH, HEIGHT = 400, 576
MARGIN = 12
SCALE = 1.25
"""Such that each side is a whole number of pixels."""
CALLBACK = "https://shop.example/callback"
REQUEST = {
    "response_type": "code",
    "redirect_uri": CALLBACK,
    "scope": "openid profile",
    "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    "code_challenge_method": "S256",
}


def main() -> None:
    """Write the picture if asked to."""
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    port = free_port("127.0.0.1", 8000, "another port")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), port) as (url, client_id):
        page = httpx2.URL(f"{url}/oauth2/authorize", params={**REQUEST, "client_id": client_id})
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            PICTURE.write_bytes(side_by_side(browser, [taken(browser, str(page), it) for it in SCHEMES]))
            browser.close()


SCHEMES = ("light", "dark")


@contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[str, str]]:
    """Yield the URL of an issuer and the id of a client."""
    url = f"http://127.0.0.1:{port}"
    names = {"ISSUER_URL": url, "ISSUER_NAME": "Example accounts", "ISSUER_KEYS_PASSPHRASE": "x" * 32}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in names.items()))
    (folder / ".env").chmod(0o600)
    issuer = build(Settings(url=url, database_url=f"sqlite:///{folder}/issuer.db", keys=f"{folder}/keys"))
    client, _ = register_client(
        issuer.clients.store,
        "Shop",
        AuthMethod.NONE,
        frozenset(),
        (),
        system_clock(),
        redirect_uris=[CALLBACK],
    )
    issuer.close()
    command = [sys.executable, "-P", "-m", "issuer.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        try:
            while not is_ready(url):
                time.sleep(0.2)
            yield url, client.id
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    """Return whether the issuer answers."""
    try:
        return httpx2.get(f"{url}/readyz", trust_env=False).is_success
    except httpx2.TransportError:
        return False


def taken(browser: Browser, url: str, scheme: str) -> bytes:
    """Return a picture of the page in one colour scheme."""
    size = {"width": WIDTH, "height": HEIGHT}
    context = browser.new_context(color_scheme=scheme, viewport=size, device_scale_factor=SCALE)  # type: ignore[arg-type] # of SCHEMES
    page = context.new_page()
    page.goto(url)
    page.evaluate("document.activeElement.blur()")
    return page.screenshot()


def side_by_side(browser: Browser, pictures: list[bytes]) -> bytes:
    """Return the pictures in one row."""
    style = (
        f"width:{WIDTH}px;margin:{MARGIN}px 0 {MARGIN}px {MARGIN}px;border-radius:8px;outline:1px solid #8884"
    )
    sources = [f"data:image/png;base64,{b64encode(each).decode()}" for each in pictures]
    html = "".join(f'<img style="{style}" src="{source}">' for source in sources)
    size = {"width": len(pictures) * (WIDTH + MARGIN) + MARGIN, "height": HEIGHT + 2 * MARGIN}
    page = browser.new_context(viewport=size, device_scale_factor=SCALE).new_page()  # type: ignore[arg-type] # two numbers
    page.set_content(f'<body style="margin:0;display:flex;background:white">{html}</body>')
    return page.screenshot()


if __name__ == "__main__":
    main()
