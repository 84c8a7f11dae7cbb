"""`/docs` of both services in a real browser: the security policy breaks nothing, and Authorize logs in."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import Page, page
from support.servers import PASSPHRASE, Installation, eventually, free_port, is_free

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
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("no nginx here: paths behind a proxy were NOT tested")
    (folder / "nginx.conf").write_text(STRIPPING.format(folder=folder, port=port, behind=behind))
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")],
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


def authorize(opened: Page, docs: str) -> None:
    """Log in as alice by the button of a page, as a person does."""
    opened.open(docs)
    opened.until("document.querySelector('.btn.authorize')?.click() ?? !!document.querySelector('.modal-ux')")
    fill = """(() => {
      const set = (selector, value) => {
        const field = document.querySelector(selector);
        Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, value);
        field.dispatchEvent(new Event('input', {bubbles: true}));
      };
      if (!document.querySelector('#oauth_password')) return false;
      set('#oauth_username', 'alice');
      set('#oauth_password', %s);
      document.querySelector('.modal-ux button.authorize').click();
      return true;
    })()"""
    opened.until(fill % json.dumps(PASSWORD))
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


def test_the_pages_of_both_services_log_a_person_in_under_their_security_policy(tmp_path: Path) -> None:
    with Installation(tmp_path, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.settings["ISSUER_CORS_ORIGINS"] = site.service_url
        site.serve().until_ready()
        site.serve_service().until_ready()
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        for url, operation, shown in (
            (site.url, "me_users_me_get", '"username": "alice"'),
            (site.service_url, "protected_route_protected_route_get", "Hello, alice"),
        ):
            with page() as opened:
                authorize(opened, f"{url}/docs")
                assert shown in executed(opened, operation)
                assert opened.complaints == []


def test_the_page_logs_in_below_the_path_of_the_url_behind_a_proxy_that_takes_it_off(tmp_path: Path) -> None:
    port = free_port()
    with Installation(tmp_path, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.settings["ISSUER_URL"] = f"http://127.0.0.1:{port}/auth"
        site.serve().until_ready()
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        with stripping_proxy(tmp_path, port, site.port), page() as opened:
            authorize(opened, f"http://127.0.0.1:{port}/auth/docs")
            assert '"username": "alice"' in executed(opened, "me_users_me_get")
            assert opened.complaints == []
            inserted = site.http.get(
                f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server/auth"
            ).json()
            assert inserted["issuer"] == f"http://127.0.0.1:{port}/auth"
            assert site.http.get(inserted["jwks_uri"]).status_code == 200
