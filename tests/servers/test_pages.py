"""`/docs` of both services in a real browser: the security policy breaks nothing, and Authorize logs in."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import Browser, Page, running_browser
from support.components import require
from support.servers import PASSPHRASE, Installation, eventually, free_port, is_free

from issuer.cli.demo import _scratch_folder
from issuer.cli.demo_servers import Ports

ROOT = Path(__file__).parents[2]
PASSWORD = "violet otters juggle pancakes"
STRIPPING = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /auth/ {{ proxy_pass http://127.0.0.1:{behind}/; }}
    location /.well-known/ {{ proxy_pass http://127.0.0.1:{behind}; }}
  }}
}}
"""


@contextmanager
def stripping_proxy(folder: Path, port: int, behind: int) -> Iterator[None]:
    """Take /auth off before the issuer sees a path, as nginx does where proxy_pass ends with a slash."""
    require("nginx")
    (folder / "nginx.conf").write_text(STRIPPING.format(folder=folder, port=port, behind=behind))
    process = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: not is_free(port), "nginx listens")
        yield
    finally:
        process.terminate()
        process.wait()


FILL = """(([scheme, ...values]) => {
  const form = [...document.querySelectorAll('.modal-ux .auth-container')]
    .find(each => each.querySelector('h4').innerText.startsWith(scheme));
  const fields = form ? [...form.querySelectorAll('input:not([type=checkbox])')].slice(0, values.length) : [];
  if (!fields.length) return false;
  fields.forEach((field, number) => {
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, values[number]);
    field.dispatchEvent(new Event('input', {bubbles: true}));
  });
  form.querySelector('button.authorize').click();
  return true;
})(%s)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def authorize(opened: Page, docs: str, *values: str, scheme: str) -> None:
    """Fill in the form of a security scheme behind the button of a page, as a person does."""
    opened.open(docs)
    opened.until("document.querySelector('.btn.authorize')?.click() ?? !!document.querySelector('.modal-ux')")
    opened.until(FILL % json.dumps([scheme, *values]))
    opened.until(
        "[...document.querySelectorAll('.modal-ux button')].some(each => each.innerText == 'Logout')"
    )
    opened.run("document.querySelector('.modal-ux .close-modal').click()")


EXECUTE = """(() => {
  const operation = document.querySelector('[id$=%s]');
  if (!operation) return '';
  const shown = operation.querySelector('.live-responses-table .highlight-code');
  if (shown) return shown.innerText;
  const next = ['.execute', '.try-out__btn', '.opblock-summary-control'].map(each => operation.querySelector(each));
  next.find(each => each)?.click();
  return '';
})()"""


def executed(opened: Page, operation: str) -> str:
    """Return the body that a page shows after its Execute for one operation."""
    return str(opened.until(EXECUTE % operation))


def of_getting_started(site: Installation) -> dict[str, str]:
    """Return the settings of docs/start.md with the ports of an installation."""
    text = (ROOT / "docs" / "start.md").read_text("utf-8")
    (block,) = re.findall(r"^cat > \.env <<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
    return read(block.replace(":8000", f":{site.port}").replace(":8001", f":{site.service_port}"))


def of_the_demo(site: Installation) -> dict[str, str]:
    """Return the settings of the demo with the ports of an installation."""
    with _scratch_folder(Ports(site.port, site.service_port)) as folder:
        return read((folder / ".env").read_text("utf-8"))


def read(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("ISSUER_KEYS_PASS"))


@pytest.mark.parametrize("settings", [of_getting_started, of_the_demo])
def test_the_pages_of_both_services_log_a_person_in_under_their_security_policy(
    tmp_path: Path, browser: Browser, settings: Callable[[Installation], dict[str, str]]
) -> None:
    with Installation(tmp_path, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.settings.update(settings(site))
        site.serve().until_ready()
        site.serve_service().until_ready()
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        with browser.page() as opened:
            for url, scheme, operation, shown in (
                (site.url, "password_login", "me_users_me_get", '"username": "alice"'),
                (site.service_url, "issuer", "protected_route_protected_route_get", "Hello, alice"),
                (
                    f"http://localhost:{site.service_port}",
                    "issuer",
                    "protected_route_protected_route_get",
                    "Hello, alice",
                ),
            ):
                authorize(opened, f"{url}/docs", "alice", PASSWORD, scheme=scheme)
                assert shown in executed(opened, operation)
            assert opened.complaints == []


def test_the_pages_authenticate_clients_and_take_tokens(tmp_path: Path, browser: Browser) -> None:
    metrics_token = "a token of sixteen characters"
    with Installation(
        tmp_path, ISSUER_KEYS_PASSPHRASE=PASSPHRASE, ISSUER_METRICS_TOKEN=metrics_token
    ) as site:
        site.serve().until_ready()
        site.serve_service().until_ready()
        site.command("users", "add", "alice", "--scope", "items:read", "--password-stdin", stdin=PASSWORD)
        machine = site.command("clients", "add", "machine", "--scope", "items:read", "--json").document
        alice = site.http.post(f"{site.url}/login", data={"username": "alice", "password": PASSWORD}).json()
        with browser.page() as opened:
            for url, scheme, values, operation, shown in (
                (
                    site.url,
                    "client_secret_basic",
                    (machine["client_id"], machine["client_secret"]),
                    "token_endpoint_oauth2_token_post",
                    '"scope": "items:read"',
                ),
                (
                    site.url,
                    "access_token",
                    (alice["access_token"],),
                    "me_users_me_get",
                    '"username": "alice"',
                ),
                (
                    site.service_url,
                    "access_token",
                    (alice["access_token"],),
                    "items_items_get",
                    "a first item",
                ),
                (
                    site.url,
                    "metrics_token",
                    (metrics_token,),
                    "metrics_metrics_get",
                    "issuer_key_ring_version",
                ),
            ):
                authorize(opened, f"{url}/docs", *values, scheme=scheme)
                assert shown in executed(opened, operation)
            assert opened.complaints == []


def test_the_page_logs_in_below_the_path_of_the_url_behind_a_proxy_that_takes_it_off(
    tmp_path: Path, browser: Browser
) -> None:
    port = free_port()
    with Installation(tmp_path, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.settings["ISSUER_URL"] = f"http://127.0.0.1:{port}/auth"
        site.serve().until_ready()
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        with stripping_proxy(tmp_path, port, site.port), browser.page() as opened:
            authorize(
                opened, f"http://127.0.0.1:{port}/auth/docs", "alice", PASSWORD, scheme="password_login"
            )
            assert '"username": "alice"' in executed(opened, "me_users_me_get")
            assert opened.complaints == []
            inserted = site.http.get(
                f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server/auth"
            ).json()
            assert inserted["issuer"] == f"http://127.0.0.1:{port}/auth"
            assert site.http.get(inserted["jwks_uri"]).status_code == 200
