"""The log: its two formats, the request of each line, and no injected lines.

That it contains no secrets is tested with real servers in `servers/test_secrets.py`.
"""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr

import pytest
import structlog
from fastapi.testclient import TestClient
from support.defaults import ALICE, Build, same

from issuer.accounts.hashing_pool import HashingPool
from issuer.database.database import Database
from issuer.logs import configure_log, request_id
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.group_commit import GroupCommit
from issuer.web.app import create_app
from issuer.web.http.path_redaction import PathRedaction

Lines = Callable[[], list[dict[str, object]]]
PROXY = ("192.0.2.1", 4711)
EVIL = '\x1b[2J\x1b]0;owned\x07\r\n{"event": "forged"}\u202e\u2028'


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], level=logging.WARNING, force=True)


class Output(io.StringIO):
    """A standard error, of a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def logging_to(output: Output) -> Output:
    """Let what is made from now on log there."""
    with redirect_stderr(output):
        configure_log()
    return output


@pytest.fixture
def lines() -> Lines:
    """What was logged since the last time it was asked for; each line must be JSON. To be asked for first."""
    output = logging_to(Output(terminal=False))

    def new_lines() -> list[dict[str, object]]:
        text = output.getvalue()
        output.seek(0)
        output.truncate()
        return [json.loads(line) for line in text.splitlines()]

    return new_lines


@pytest.fixture
def terminal() -> Output:
    return logging_to(Output(terminal=True))


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_request_is_one_line_of_json_with_the_id_that_the_answer_names(
    lines: Lines, web: TestClient, alice: str
) -> None:
    lines()
    answer = web.post("/login", data=ALICE)
    issued, line = lines()
    assert issued["request_id"] == line["request_id"]
    assert line["event"] == "request"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", str(line["request_id"]))
    assert (line["method"], line["path"], line["status"]) == ("POST", "/login", 200)
    assert line.keys() >= {"timestamp", "level", "client", "milliseconds"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_not_logged_and_bear_no_id(lines: Lines, web: TestClient, path: str) -> None:
    assert "x-request-id" not in web.get(path).headers
    assert lines() == []


def test_lines_logged_on_other_threads_name_the_request_they_belong_to(
    lines: Lines, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.get_logger("test")
    real = issuer.accounts.passwords.verify
    monkeypatch.setattr(
        issuer.accounts.passwords,
        "verify",
        lambda *given: (log.info("hashes"), real(*given))[1],
        raising=True,
    )
    with TestClient(create_app(issuer)) as web:
        assert web.post("/users", json=ALICE).status_code == 201
        lines()
        answer = web.post("/login", data=ALICE)
    hashes, request = [line for line in lines() if line["event"] in {"hashes", "request"}]
    assert hashes["request_id"] == request["request_id"] == answer.headers["x-request-id"]


def test_jobs_of_a_batch_and_of_the_hashing_pool_keep_each_their_own_request(database: Database) -> None:
    async def asked(name: str, group_commit: GroupCommit, pool: HashingPool) -> bool:
        request_id.set(name)
        refreshed = await group_commit.run(name.encode(), same, request_id.get, same)  # type: ignore[type-var]
        new_lines = refreshed, await pool.run((), request_id.get)
        return new_lines == (name, name)

    async def all_at_once() -> list[bool]:
        group_commit, pool = GroupCommit(FamilyStore(database)), HashingPool(1)
        try:
            return await asyncio.gather(*(asked(f"request-{n}", group_commit, pool) for n in range(20)))
        finally:
            group_commit.close()
            pool.close()

    assert all(asyncio.run(all_at_once()))


# Ids from outside


@pytest.fixture
def proxied(made: Build, settings: Settings) -> Iterator[TestClient]:
    """A client that comes from the trusted proxy."""
    issuer = made(settings.model_copy(update={"trusted_proxies": (f"{PROXY[0]}/32",)}))
    with TestClient(create_app(issuer), client=PROXY) as client:
        yield client


def test_the_id_of_a_trusted_proxy_is_taken_over(lines: Lines, proxied: TestClient) -> None:
    answer = proxied.get("/users/me", headers={"X-Request-ID": "0af7651916cd43dd"})
    assert answer.headers["x-request-id"] == "0af7651916cd43dd"
    assert [line["request_id"] for line in lines()] == ["0af7651916cd43dd"]


@pytest.mark.parametrize(
    "brought", ["short", "x" * 65, 'a"b: 12345678', "with spaces in it", "é" * 8, "", "${jndi:ldap://x}"]
)
def test_an_id_that_a_log_cannot_hold_is_replaced_even_from_a_proxy(
    lines: Lines, proxied: TestClient, brought: str
) -> None:
    answer = proxied.get("/users/me", headers={"X-Request-ID": brought.encode()})
    (line,) = lines()
    assert re.fullmatch(r"[0-9a-f]{16}", str(line["request_id"]))
    assert answer.headers["x-request-id"] == line["request_id"]


def test_only_a_trusted_proxy_chooses_request_ids(lines: Lines, web: TestClient) -> None:
    web.get("/users/me", headers={"X-Request-ID": "0af7651916cd43dd"})
    assert [line["request_id"] for line in lines()] != ["0af7651916cd43dd"]


def test_a_forwarded_value_that_is_no_address_is_not_logged(lines: Lines, proxied: TestClient) -> None:
    proxied.get("/users/me", headers={"X-Forwarded-For": "x" * 5000})
    (line,) = lines()
    assert line["client"] == PROXY[0]


# What strangers write


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/login", "/login"),
        ("/users/me/sessions/eyJhbGciOi", "/users/me/sessions/*"),
        ("/login/hunter2", "/login/*"),
        ("/hunter2", "/*"),
        ("/login/", "/login/"),
        ("//login", "//login"),
        ("", ""),
        ("*", "*"),
        ("/" * 5000, "////////*"),
        ("/users/{id}", "/users/*"),
    ],
)
def test_only_known_segments_of_a_path_are_logged(path: str, shown: str) -> None:
    known = PathRedaction(["/login", "/users/me", "/users/me/sessions/{id}"])
    assert known.redacted(path) == shown


def test_a_path_forges_no_line_and_is_never_long(lines: Lines, web: TestClient) -> None:
    web.get("/" + "%1b%5b2J%0d%0a%7b%22event%22:%22forged%22%7d" * 50)
    (line,) = lines()
    assert (line["event"], line["path"]) == ("request", "/*")


def test_json_escapes_every_character_that_could_break_a_line(lines: Lines) -> None:
    structlog.get_logger("test").info("an event", value=EVIL)
    logging.getLogger("uvicorn.error").warning(EVIL)
    assert [line.get("value") or line["event"] for line in lines()] == [EVIL, EVIL]


def test_on_a_terminal_strangers_words_are_neither_obeyed_nor_lines_of_their_own(terminal: Output) -> None:
    structlog.get_logger("test").info("an event", value=EVIL)
    logging.getLogger("uvicorn.error").warning(EVIL)
    printed = without_colours(terminal.getvalue())
    assert len(printed.splitlines()) == 2
    assert all(character.isprintable() for character in printed.replace("\n", ""))


def test_on_a_terminal_a_traceback_keeps_its_lines(terminal: Output) -> None:
    def defect() -> None:
        raise RuntimeError(EVIL)

    try:
        defect()
    except RuntimeError:
        structlog.get_logger("test").exception("a defect")
    printed = without_colours(terminal.getvalue())
    assert "Traceback" in printed
    assert len(printed.splitlines()) > 3
    assert all(character.isprintable() for character in printed.replace("\n", ""))
