"""Sign-in by the browser on SQLite and PostgreSQL, both durable, compared with npm's oidc-provider in memory.

Compared are the two ends of the authorization code flow, and none of the passwords between them (see `logins`):

- codes redeemed, each once: confidential client, PKCE, two signatures (RS256: access token, id_token), refresh token;
- authorization requests of browsers without a cookie, up to the redirect to the sign-in page;
- the sign-in page of such a request. oidc-provider leaves it to the application; its development page is compared.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import httpx2
from load import FORM, LoadFailed, Request, at, loading
from rounds import Bench, Case, Contestant, Findings, folder_of
from seeding import Asked, add_accounts, add_browser_sessions, add_codes
from servers import REDIRECT_URI, Running, fresh_database, installed, issuer, postgresql, provider
from support.servers import Installation

from issuer.database.database import Database

CONNECTIONS = (1, 8, 32)
JUDGED = 8
ACCOUNTS = 4000
"""So many that none of them has more sessions at once than the issuer keeps."""
CODES_PER_SECOND = 4000
"""More than anyone redeems."""
VERIFIER = "a-verifier-of-at-least-forty-three-characters"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPE = "openid offline_access items:read"
SQLITE, POSTGRESQL, PEER = "on SQLite", "on PostgreSQL", "oidc-provider"
CODES, AUTHORIZATION, PAGE = "code {}", "authorization request {}", "sign-in page {}"


@dataclass(frozen=True)
class Side:
    """One of those compared: its server, its client, and what makes so many codes for it."""

    name: str
    server: Running
    client: tuple[str, str]
    authorize: str
    token: str
    codes: Callable[[int], Sequence[str]]
    database: Running | None = None

    @property
    def query(self) -> str:
        """The authorization request."""
        asked = {
            "client_id": self.client[0],
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": SCOPE,
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return f"{self.authorize}?{urlencode(asked)}"

    def redemptions(self, seconds: int) -> list[str]:
        """Return the bodies of token requests with new codes, more than are redeemed within so many seconds."""
        form = {
            "grant_type": "authorization_code",
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        }
        rest = urlencode(form)
        return [f"{rest}&code={code}" for code in self.codes(seconds * CODES_PER_SECOND)]

    def page(self) -> Request:
        """Return the request for the sign-in page, as the browser sends it that was redirected to it."""
        with httpx2.Client(trust_env=False) as browser:
            sent = browser.get(self.server.url + self.query)
            url = urlsplit(urljoin(f"{self.server.url}/", sent.headers.get("location", "")))
            cookies = "; ".join(f"{name}={value}" for name, value in sent.cookies.items())
            target = f"{url.path}?{url.query}" if url.query else url.path
            shown = browser.get(self.server.url + target, headers={"Cookie": cookies})
        if not sent.is_redirect or not shown.is_success or 'type="password"' not in shown.text:
            raise LoadFailed(
                f"{self.name}: no sign-in page, but {sent.status_code}, then {shown.status_code}"
            )
        return Request(target, headers={"Cookie": cookies})

    def contestants(self, seconds: int) -> dict[str, Contestant]:
        """Return what takes its turn."""
        basic = base64.b64encode(":".join(self.client).encode()).decode()
        redeemed = Request(self.token, "POST", {"Authorization": f"Basic {basic}", **FORM})
        found: dict[str, Contestant] = {}
        for connections in CONNECTIONS:
            window = seconds if connections == JUDGED else max(1, seconds // 2)
            found[at(CODES.format(self.name), connections)] = loading(
                self.server,
                redeemed,
                connections,
                window,
                database=self.database,
                fresh=partial(self.redemptions, window),
            )
        for what, request in ((AUTHORIZATION, Request(self.query)), (PAGE, self.page())):
            found[at(what.format(self.name), JUDGED)] = loading(
                self.server, request, JUDGED, seconds, database=self.database
            )
        return found


def ours(name: str, installation: Installation, url: str, stack: ExitStack, database: Running | None) -> Side:
    """Start an issuer with accounts that are signed in."""
    server = issuer(installation)
    options = ["--scope", "items:read", "--redirect-uri", REDIRECT_URI, "--json"]
    made = installation.command("clients", "add", "web", *options).document
    client = made["client_id"], made["client_secret"]
    stored = Database(url)
    stack.callback(stored.close)
    add_accounts(stored, range(ACCOUNTS), "kept, but never verified here")
    add_browser_sessions(stored, range(ACCOUNTS))
    audience = installation.service_url, installation.url
    asked = Asked(client[0], REDIRECT_URI, CHALLENGE, frozenset(SCOPE.split()), audience)

    def codes(count: int) -> list[str]:
        return add_codes(stored, count, ACCOUNTS, asked)

    return Side(name, server, client, "/oauth2/authorize", "/oauth2/token", codes, database)


def theirs(server: Running, client: tuple[str, str]) -> Side:
    """Return the side of oidc-provider."""

    def codes(count: int) -> list[str]:
        asked: dict[str, str | int] = {"count": count, "challenge": CHALLENGE}
        got = httpx2.get(f"{server.url}/codes", params=asked, trust_env=False, timeout=60)
        return got.raise_for_status().text.split()

    return Side(PEER, server, client, "/auth", "/token", codes)


def sides(bench: Bench, folder: Path, stack: ExitStack) -> list[Side]:
    """Start all servers; what is missing is noted."""
    installation = stack.enter_context(installed(folder / "sqlite"))
    found = [ours(SQLITE, installation, f"sqlite:///{installation.folder / 'issuer.db'}", stack, None)]
    running = bench.unless_missing(stack, "sign-in on PostgreSQL", postgresql())
    if running is not None:
        url = fresh_database(running)
        other = stack.enter_context(installed(folder / "postgresql", ISSUER_DATABASE_URL=url))
        found.append(ours(POSTGRESQL, other, url, stack, running))
    client = found[0].client
    peer = bench.unless_missing(
        stack, "sign-in beside a peer", provider(folder, client, installation.service_url)
    )
    return [*found, theirs(peer, client)] if peer else found


def measure(bench: Bench) -> Findings:
    """Measure it."""
    with folder_of(bench, "sign-in") as folder, ExitStack() as stack:
        bench.tell("sign-in: starting the servers")
        turns: dict[str, Contestant] = {}
        for side in sides(bench, folder, stack):
            turns |= side.contestants(bench.seconds)
        for what in (CODES, AUTHORIZATION, PAGE):
            turns.get(at(what.format(PEER), JUDGED), dict)()  # warm
        rounds = bench.taking_turns("sign-in", turns)
    compared = {
        "codes-sqlite": (CODES, SQLITE),
        "codes-postgresql": (CODES, POSTGRESQL),
        "authorization": (AUTHORIZATION, SQLITE),
        "sign-in-page": (PAGE, SQLITE),
    }
    rows, by_cpu = (
        {
            row: rounds.ratio(at(what.format(who), JUDGED), at(what.format(PEER), JUDGED), metric)
            for row, (what, who) in compared.items()
        }
        for metric in ("per_second", "per_cpu_second")
    )
    return Findings(rounds.medians(), rows, by_cpu)


CASE = Case("sign-in", ("codes-sqlite", "codes-postgresql", "authorization", "sign-in-page"), measure)
