"""The log of refused tokens and of outages: what it says, what it never shows, and how often it speaks."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.attacks.claims import CLAIMS
from support.attacks.forging import Row
from support.attacks.forms import FORM
from support.attacks.headers import HEADER, SIGNATURE, UNKNOWN_KID
from support.defaults import bearer
from support.verifier import AUDIENCE, START, Clock, Forge, Judge

from jwks_verifier import InvalidToken, JwksCache, KeysUnavailable, Reason, Timings, TokenVerifier
from jwks_verifier.logs import BURST, MOST_CHARACTERS, SECONDS_PER_WARNING, RefusalLog
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer
from verifier_example.app import create_app
from verifier_example.settings import Settings

LOGGER = "jwks_verifier"
SECRET = "seen-only-in-this-token"
NOW = int(START)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the new warnings of the library."""
    caplog.set_level(logging.INFO, LOGGER)

    def read() -> list[str]:
        found = [each.getMessage() for each in caplog.records if each.name == LOGGER]
        caplog.clear()
        return found

    return read


Lines = Callable[[], list[str]]
EXPECTED: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": ({"aud": "https://a.test"}, f"aud is https://a.test, expected {AUDIENCE}"),
    "several audiences": ({"aud": ["a", "b"]}, f"aud is [a, b], expected {AUDIENCE}"),
    "another issuer": ({"iss": "https://b.test"}, "iss is https://b.test, expected https://issuer.test"),
    "expired": (
        {"exp": NOW - 95},
        "expired 95 s ago: exp is 2027-01-15T07:58:25Z, and this machine's clock says 2027-01-15T08:00:00Z",
    ),
    "not yet valid": (
        {"nbf": NOW + 40},
        "not valid for another 40 s: nbf is 2027-01-15T08:00:40Z, and this machine's clock says 2027-01-15T08:00:00Z",
    ),
    "from a clock ahead": (
        {"iat": NOW + 40},
        "not valid for another 40 s: iat is 2027-01-15T08:00:40Z, and this machine's clock says 2027-01-15T08:00:00Z",
    ),
    "incomplete": ({"jti": None, "client_id": None}, "claims are missing: client_id, jti"),
    "of another form": ({"scope": ["x"]}, "a claim is missing or has a wrong form"),
}


@pytest.mark.parametrize(("claims", "words"), EXPECTED.values(), ids=EXPECTED)
def test_with_a_right_signature_the_log_shows_what_was_seen_and_expected(
    judge: Judge, forge: Forge, lines: Lines, claims: dict[str, Any], words: str
) -> None:
    judge.reason(forge.token(**claims))
    assert lines() == [f"token refused: {words}"]


def test_without_a_right_signature_the_log_shows_what_was_expected_and_a_part_of_the_kid(
    judge: Judge, forge: Forge, lines: Lines, clock: Clock
) -> None:
    unchecked = "(signature not checked: its kid is unknown)"
    unknown = {"kid": "an-unknown-kid"}
    for token, words in (
        (forge.token(unknown), f"no key with kid an-unkno… in {forge.issuer.url}{JWKS_PATH}"),
        (forge.token({"kid": "http://x.test/"}), "the kid http://x… is an address"),
        (forge.token(unknown, iss=SECRET), f"iss is not https://issuer.test {unchecked}"),
        (forge.token(unknown, aud=SECRET), f"aud does not contain {AUDIENCE} {unchecked}"),
        (forge.token(unknown, exp=1), "it is expired"),
        (forge.signed(forge.header(), forge.claims(), forge.stranger), "its signature does not match"),
        (
            forge.token({"typ": SECRET}),
            "its header lacks the typ at+jwt, an accepted alg or a kid, or has a forbidden",
        ),
    ):
        judge.reason(token)
        clock.rest(SECONDS_PER_WARNING)
        (line,) = lines()
        assert line.startswith(f"token refused: {words}")
        assert SECRET not in line


ATTACKS: list[Row] = [*FORM, *HEADER, *SIGNATURE, *CLAIMS, *UNKNOWN_KID]


def test_every_refusal_of_an_attack_is_one_line_of_ascii_without_a_part_of_the_token(
    judge: Judge, forge: Forge, lines: Lines, clock: Clock
) -> None:
    for row in ATTACKS:
        clock.rest(SECONDS_PER_WARNING)
        token = row.make(forge)
        lines()
        judge.reason(token)
        (line,) = lines()
        assert line.replace("…", "").isascii(), row.name
        assert line.isprintable(), row.name
        assert len(line) < 3 * MOST_CHARACTERS, row.name
        assert not [part for part in token.split(".") if len(part) > 16 and part in line], row.name


def test_values_are_escaped_and_cut(judge: Judge, forge: Forge, lines: Lines) -> None:
    judge.reason(forge.token(aud="é\u202e\\n" + "x" * 1000))
    (line,) = lines()
    assert line.startswith(r"token refused: aud is \xe9\u202e\\nxxx")
    assert line.endswith(f"xxx…, expected {AUDIENCE}")
    assert len(line) < 2 * MOST_CHARACTERS


def test_a_missing_scope_is_logged_with_what_the_token_has(
    client: TestClient, forge: Forge, lines: Lines
) -> None:
    for scope, given in (("items:write b", "b items:write"), ("", "none")):
        assert client.get("/items", headers=bearer(forge.token(scope=scope))).status_code == 403
        assert lines() == [f"token refused: needs items:read, has {given}"]


def test_each_reason_has_a_few_warnings_and_then_one_a_minute_with_a_count(lines: Lines) -> None:
    clock = Clock()
    log = RefusalLog(clock.monotonic)
    for _ in range(100):
        log.refused(InvalidToken(Reason.SIGNATURE))
    log.refused(InvalidToken(Reason.HEADER))  # not silenced by the other
    assert len(lines()) == BURST + 1
    clock.advance(SECONDS_PER_WARNING)
    log.refused(InvalidToken(Reason.SIGNATURE))
    log.refused(InvalidToken(Reason.SIGNATURE))
    assert [line.partition(" (")[2] for line in lines()] == [
        "95 more for this reason since the last such line)"
    ]
    clock.advance(10 * BURST * SECONDS_PER_WARNING)
    for _ in range(100):
        log.refused(InvalidToken(Reason.SIGNATURE))
    assert len(lines()) == BURST


def test_a_flood_of_refusals_logs_a_few_lines(judge: Judge, forge: Forge, lines: Lines) -> None:
    for number in range(200):
        judge.reason(f"junk{number}")
        judge.reason(forge.token(aud=f"https://{number}.test"))
    assert len(lines()) == 2 * BURST


def test_an_outage_is_logged_once_for_each_state_of_the_keys(
    issuer: InProcessIssuer, clock: Clock, forge: Forge, lines: Lines
) -> None:
    timings = Timings(backoff_first=3600, backoff_last=3600)
    cache = JwksCache(issuer.url, transport=issuer.transport, timings=timings, monotonic=clock.monotonic)
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
    said: list[list[str]] = []

    async def scenario() -> None:
        issuer.down = True
        async with cache:
            for down, rest in ((True, 0), (False, 10), (True, 10), (True, 400), (True, 4000), (False, 10)):
                issuer.down = down
                clock.rest(rest)
                for _ in range(3):
                    await cache.refresh()
                    with suppress(KeysUnavailable):
                        await verifier.verify(forge.token())
                said.append([line.rpartition("; ")[2] for line in lines()])

    asyncio.run(scenario())
    assert said == [
        ["no token can be verified"],
        ["the keys of https://issuer.test can be fetched again"],
        ["the cached keys are still used"],
        ["the cached keys are past their lifetime and still used for a while"],
        ["the cached keys are too old, no token can be verified"],
        ["the keys of https://issuer.test can be fetched again"],
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, RecursionError, MemoryError])
def test_a_log_handler_that_raises_changes_no_answer(
    judge: Judge, forge: Forge, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    class Raising(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise error

    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [Raising()])
    assert judge.reason(forge.token(aud="x")) is Reason.AUDIENCE
    assert judge(forge.token()).subject == "u1"


def test_the_caller_gets_no_more_detail_than_before(
    app: FastAPI, forge: Forge, verifier: TokenVerifier
) -> None:
    with TestClient(app) as client:
        answer = client.get("/me", headers=bearer(forge.token(aud=SECRET)))
    assert answer.json() == {"error": "invalid_token", "error_description": "invalid token"}
    assert SECRET not in str(answer.headers)


def test_the_example_service_logs_a_refusal_once(
    issuer: InProcessIssuer, forge: Forge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwks_verifier.cache.HttpClient.get", refuse)
    caplog.set_level(logging.INFO)
    settings = Settings(_env_file=None, issuer=issuer.url, audience=AUDIENCE)
    with TestClient(create_app(settings)) as client:
        assert client.get("/me", headers=bearer("junk")).status_code == 401
        assert client.get("/me", headers=bearer(issuer.make_token(aud=AUDIENCE))).status_code == 503
    logged = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert sum("refused" in line for line in logged) == 1
    assert sum("fetched" in line for line in logged) == 1
    assert not [line for line in caplog.messages if "rejected" in line or "fetch_failed" in line]


async def refuse(*_: object, **__: object) -> None:
    raise ValueError("no answer")


UNCONFIGURED = """
import asyncio
from jwks_verifier import InvalidToken, JwksCache, TokenVerifier
from jwks_verifier.testing import InProcessIssuer

async def main():
    issuer = InProcessIssuer()
    async with TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), "https://b") as verifier:
        await verifier.verify(issuer.make_token(aud="https://b"))
        try:
            await verifier.verify(issuer.make_token(aud="https://a"))
        except InvalidToken as refusal:
            print(refusal)

asyncio.run(main())
"""


@pytest.mark.processes
def test_without_configured_logging_the_reason_is_on_standard_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCONFIGURED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "token refused: aud is https://a, expected https://b\n"
    assert done.stdout == "audience\n"
