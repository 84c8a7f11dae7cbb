"""Refreshes of many users that a group commit does together, and what they leave in the database."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import select

from issuer.clients.client import FIRST_PARTY_ID
from issuer.database.database import Database
from issuer.digests import digest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import OAuthRequest
from issuer.services import Issuer
from issuer.throttling.origin import Origin
from issuer.tokens.family_queries import Found
from issuer.tokens.group_commit import GroupCommit
from issuer.tokens.refresh_rotation import refresh_tokens
from support.defaults import same
from support.servers import eventually

PEOPLE = 12
PATIENCE_SECONDS = 60.0

Work = Callable[[Found | None], UnsignedTokenResponse]
"""A refresh: decided for a token that was found, or done alone."""


def grant(issuer: Issuer, token: str, found: Found | None = None, **more: str) -> UnsignedTokenResponse:
    form = {"grant_type": "refresh_token", "client_id": FIRST_PARTY_ID, "refresh_token": token, **more}
    request, pipeline = OAuthRequest(form), issuer.tokens.pipeline
    if found is None:
        return pipeline.grant(request, Origin(), issuer.clock())
    return pipeline.decide(request, Origin(), issuer.clock(), found)


def submit(group_commit: GroupCommit, token: str, work: Work, then: Callable[[Any], Any] = same) -> Any:
    return group_commit.run(digest(token), work, partial(work, None), then)


def run_together(group_commit: GroupCommit, works: Sequence[tuple[str, Work]]) -> list[Any]:
    """Submit all before any starts; return the successor of each token, or the error."""

    async def run() -> list[Any]:
        asked = (submit(group_commit, token, work) for token, work in works)
        return await asyncio.gather(*asked, return_exceptions=True)

    return [
        each.refresh_token if isinstance(each, UnsignedTokenResponse) else each for each in asyncio.run(run())
    ]


def refreshes_of(issuer: Issuer, tokens: Sequence[str]) -> list[tuple[str, Work]]:
    return [(token, partial(grant, issuer, token)) for token in tokens]


def used(issuer: Issuer) -> Mapping[bytes, bool]:
    """Return whether each refresh token is used, by digest, as another process sees it."""
    other = Database(issuer.settings.database_url.get_secret_value())
    with other.read() as connection:
        rows = connection.execute(select(refresh_tokens.c.digest, refresh_tokens.c.used_at)).all()
    other.close()
    return {row.digest: row.used_at is not None for row in rows}


def deadlocks(url: str) -> int:
    """Return the number of deadlocks, after all sessions have ended and reported their statistics."""
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(lambda: connection.execute(others).fetchone() == (0,), "all have left")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row
    return int(row[0])
