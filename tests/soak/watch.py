"""Clients that request tokens and keep a session, observers of key sets and the database, and an operator.

Tokens are verified in `verifiers`.
"""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any

import httpx2
import psycopg
from support.replication import Pair
from support.servers import Installation

from soak.findings import Findings, Token
from soak.nodes import Node
from soak.rules import Rules

ASK_SECONDS = 0.35
LOOK_SECONDS = 0.3
TOKEN_SECONDS = 3.0
OPERATOR_SECONDS = 0.3
COMMAND_SECONDS = 0.8
"""The approximate time until a command decides."""
SKIPPED_SHARE = 0.4
THROUGH_A_NODE = 0.3
"""The share of commands that use the database link of a node, with its faults."""
OK, UNAVAILABLE = 200, 503
REPEATED_SECONDS = 25.0
"""For how long a refresh may be repeated with the same token: less than the grace, despite wrong clocks."""
TICKS_BY_OTHERS = (
    "SELECT count(*) FROM refresh_tokens WHERE abs(issued_tick / 1e6 - extract(epoch FROM now())) > 3600"
)
USER, PASSWORD = "alice", "violet otters juggle pancakes"
DONE, FAILED, REFUSED = 0, 1, 3


async def issue(
    node: Node, machine: tuple[str, str], rules: Rules, findings: Findings, over: asyncio.Event
) -> None:
    """Request tokens from `node`, which may fail only during its faults."""
    last = time.time()
    while not over.is_set():
        await asyncio.sleep(ASK_SECONDS)
        asked_at = time.time()
        was_healthy = node.is_healthy(asked_at, rules.node_timeout)
        try:
            answer = await node.http.post(
                "/oauth2/token",
                auth=machine,
                data={"grant_type": "client_credentials"},
                timeout=TOKEN_SECONDS,
            )
        except httpx2.TransportError as error:
            findings.count(f"not issued: {type(error).__name__}")
        else:
            if answer.status_code == OK:
                findings.add(Token.read(answer.json()["access_token"], node.name))
                last = time.time()
            else:
                healthy = node.pace.always_issues and was_healthy and node.is_healthy(asked_at, 0)
                _not_issued(node, answer, findings, healthy=healthy)
        if not node.is_healthy(asked_at, node.pace.idle):
            last = max(last, asked_at)
        elif time.time() - last > node.pace.idle:
            findings.violation(
                "a healthy node issues tokens", node=node.name, last=findings.since_start(last)
            )
            last = time.time()


def _not_issued(node: Node, answer: httpx2.Response, findings: Findings, *, healthy: bool) -> None:
    findings.count(f"not issued: {answer.status_code}")
    if answer.status_code != UNAVAILABLE or healthy:
        findings.violation(
            "a healthy node issues tokens" if healthy else "an issuer that cannot answer says 503",
            node=node.name,
            answer=f"{answer.status_code} {answer.text[:300]}",
            healthy_since=node.healthy_since and findings.since_start(node.healthy_since),
        )


async def keep_session(nodes: Sequence[Node], findings: Findings, over: asyncio.Event, seed: int) -> None:
    """Refresh one session repeatedly at random nodes; requests without an answer are repeated."""
    draw = Random(seed)  # noqa: S311 - reproducible, not secret
    token: str | None = None
    first_sent_at: float | None = None
    unanswered = 0
    while not over.is_set():
        await asyncio.sleep(ASK_SECONDS)
        http = draw.choice(nodes).http
        if first_sent_at and time.time() - first_sent_at > REPEATED_SECONDS:
            findings.count("sessions given up: no answer for longer than the grace")
            token = first_sent_at = None
        try:
            if token is None:
                answer = await http.post(
                    "/login", data={"username": USER, "password": PASSWORD}, timeout=TOKEN_SECONDS
                )
            else:
                first_sent_at = first_sent_at or time.time()
                form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
                answer = await http.post("/oauth2/token", data=form, timeout=TOKEN_SECONDS)
        except httpx2.TransportError:
            unanswered += token is not None
            continue
        if answer.status_code == OK:
            findings.continued("log-ins" if token is None else "sessions refreshed")
            token, first_sent_at, unanswered = answer.json()["refresh_token"], None, 0
        elif unanswered > 1 and "returned twice" in answer.text:
            findings.count("sessions given up: two answers were lost")
            token, first_sent_at, unanswered = None, None, 0
        elif answer.status_code != UNAVAILABLE:
            findings.violation(
                "a session in use stays valid",
                answer=f"{answer.status_code} {answer.text[:300]}",
                node=http.base_url,
                first_sent=first_sent_at and findings.since_start(first_sent_at),
                unanswered=unanswered,
            )
            token = first_sent_at = None


async def observe_database(pair: Pair, name: str, findings: Findings, over: asyncio.Event) -> None:
    """Read the version of the key ring in the database, which must never decrease, and by which clock tokens age."""
    highest = 0
    while not over.is_set():
        await asyncio.sleep(LOOK_SECONDS)
        try:
            version = await asyncio.to_thread(pair.ask_primary, "SELECT version FROM key_ring", name)
            by_others = await asyncio.to_thread(pair.ask_primary, TICKS_BY_OTHERS, name)
        except psycopg.OperationalError:
            findings.count("looks at a database without a primary")
            continue
        findings.count("looks at the ring's version")
        if by_others:
            findings.violation("refresh tokens age by the clock of the database", others=by_others)
        if version < highest:
            findings.violation("the ring's version never goes back", version=version, before=highest)
        highest = max(highest, version)


async def observe(node: Node, findings: Findings, over: asyncio.Event) -> None:
    """Read the JWKS of `node`: it must contain the kid of each unexpired token received before.

    A node that is not ready publishes with a shorter max-age, but never fewer keys.
    """
    while not over.is_set():
        await asyncio.sleep(LOOK_SECONDS)
        ready = await node.is_ready()
        findings.count("looks at a node that is ready" if ready else "looks at a node that is not ready")
        asked_at = time.time()
        try:
            answer = await node.http.get("/.well-known/jwks.json")
        except httpx2.TransportError as error:
            findings.count(f"no key set: {type(error).__name__}")
            continue
        findings.count(f"key set: {answer.status_code}")
        if answer.status_code == OK:
            _require_published(node, answer, asked_at, findings, ready=ready)
        elif answer.status_code != UNAVAILABLE:
            findings.violation(
                "the JWKS is answered with 200 or 503", node=node.name, answer=answer.text[:300]
            )


def _require_published(
    node: Node, answer: httpx2.Response, asked_at: float, findings: Findings, *, ready: bool
) -> None:
    served = [str(key["kid"]) for key in answer.json()["keys"]]
    missing = {
        token.kid: token  # the newest of each kid
        for token in findings.unexpired()  # now, after the answer
        if token.received_at < asked_at and token.kid not in served
    }
    for token in missing.values():
        facts: dict[str, Any] = {
            "token": findings.described(token),
            "served by": f"{node.name}, {'ready' if ready else 'not ready'} just before",
            "asked at": findings.since_start(asked_at),
            "cache control": answer.headers["Cache-Control"],
            "kids served": [kid[:8] for kid in served],
        }
        findings.violation("the key of an unexpired token was not published", **facts)


class Operator:
    """Rotates manually as soon as it is allowed, or leaves a rotation to the timer, at random by the seed."""

    def __init__(
        self, commands: Installation, nodes: Sequence[Node], database: Pair, rules: Rules, seed: int
    ) -> None:
        self._commands = commands
        self._database = database
        self._nodes = nodes
        self._rules = rules
        self._random = Random(seed)  # noqa: S311 - reproducible, not secret

    async def run(self, findings: Findings, over: asyncio.Event) -> None:
        """Rotate until `over` is set."""
        while not over.is_set():
            allowed_in = await self._rotate(findings)
            if allowed_in is None and self._random.random() < SKIPPED_SHARE:
                allowed_in = float(self._rules.lead + self._rules.spare)
            await asyncio.sleep(max(OPERATOR_SECONDS, (allowed_in or 0.0) - COMMAND_SECONDS))

    async def _rotate(self, findings: Findings) -> float | None:
        """Try to rotate; return the seconds until it is allowed, or None."""
        where = {}
        if self._random.random() < THROUGH_A_NODE:
            where["ISSUER_DATABASE_URL"] = self._random.choice(self._nodes).database_url
        began_at = time.time()
        try:
            done = await asyncio.to_thread(self._commands.command, "keys", "rotate", "--json", **where)
        except subprocess.TimeoutExpired as error:
            findings.violation("a command ends in time", command=error)
            return None
        findings.count(f"manual rotations, exit {done.code}")
        if done.code == REFUSED:
            allowed_from = done.document.get("allowed_from")  # absent if the timer was faster: try again
            return datetime.fromisoformat(allowed_from).timestamp() - time.time() if allowed_from else 0.0
        if done.code == DONE:
            findings.event(f"rotated manually: {done.document['message']}")
        elif done.code != FAILED or not (where or self._database.was_lost_since(began_at)):
            # It may fail only through a node's link, or without a primary.
            findings.violation(
                "a rotation is performed or refused with a time from which it is allowed",
                out=done.out,
                err=done.err[-2000:],
            )
        return None
