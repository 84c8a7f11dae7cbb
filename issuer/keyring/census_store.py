"""The tables of the census: a row for each instance of a verifier, and the key sets that were served.

What a process remembers until it is saved is left to `census`; rows are deleted by `maintenance.pruning`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    case,
    func,
    or_,
    select,
)

from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable, upserting
from issuer.database.types import Instant, Member, Texts
from issuer.digests import named
from issuer.keyring.census import KEPT, MOST, Evidence, KeySet, Sighting
from issuer.throttling.limits import subnet

SUBNET_MOST = 100
"""Rows of one address, or IPv6 subnet, in the table."""

verifiers = Table(
    "verifiers",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("subnet", Text, nullable=False),
    Column("instance", String(64), nullable=False),
    Column("etag", Text, nullable=False),
    Column("evidence", Member(Evidence), nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False, index=True),
    Column("listening", Boolean, nullable=False),
)
key_sets = Table(
    "key_sets",
    metadata,
    Column("etag", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("kids", Texts, nullable=False),
    Column("served_at", Instant, nullable=False),
)


class CensusStore:
    """Stores the latest request of each verifier, of all processes and nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, sightings: Sequence[Sighting], served: Sequence[KeySet]) -> None:
        """Store what a process remembers, in one transaction; a later request that is stored already stays."""
        rows = [
            {
                **{name: getattr(each, name) for name in ("name", "address", "instance", "etag", "evidence")},
                "id": named("verifier", *each.key),
                "subnet": subnet(each.address),
                "first_at": each.seen_at,
                "seen_at": each.seen_at,
                "listening": each.listening,
            }
            for each in sightings
        ]
        sets = [vars(each) for each in served]
        with self._database.write() as connection:
            # In the order of their keys: processes that store the same rows at once wait, and do not deadlock.
            for table, values, at in ((verifiers, rows, "seen_at"), (key_sets, sets, "served_at")):
                key = next(iter(table.primary_key)).name
                insert = upserting(connection, table)
                kept = {key, "first_at"}
                later = {each.name: insert.excluded[each.name] for each in table.c if each.name not in kept}
                upsert = insert.on_conflict_do_update(
                    index_elements=[key], set_=later, where=insert.excluded[at] > table.c[at]
                )
                if values:
                    connection.execute(upsert, sorted(values, key=itemgetter(key)))

    def load(self, now: datetime) -> tuple[list[Sighting], Mapping[str, KeySet], list[DatabaseDamaged]]:
        """Return the requests and key sets of the last `KEPT`, and errors for rows that cannot be read."""
        with self._database.snapshot() as connection:
            seen = connection.execute(select(verifiers).where(verifiers.c.seen_at > now - KEPT)).all()
            served = connection.execute(select(key_sets)).all()
        sightings, errors = each_readable(seen, _sighting)
        sets, more = each_readable(served, lambda row: KeySet(**checked(key_sets, row)))
        return sightings, {each.etag: each for each in sets}, [*errors, *more]


def is_crowded() -> ColumnElement[bool]:
    """Return the condition for rows beyond the bounds of the table, and of each address.

    Those of verifiers that asked once go first, then those of verifiers that returned, listeners last; of each kind
    those that were seen longest ago.
    """
    table = verifiers.c
    order = (
        table.listening.desc(),
        case((table.seen_at > table.first_at, 1), else_=0).desc(),
        table.seen_at.desc(),
        table.id,
    )
    of_subnet = func.row_number().over(partition_by=table.subnet, order_by=order).label("of_subnet")
    of_all = func.row_number().over(order_by=order).label("of_all")
    ranked = select(table.id, of_subnet, of_all).subquery()
    beyond = or_(ranked.c.of_subnet > SUBNET_MOST, ranked.c.of_all > MOST)
    return table.id.in_(select(ranked.c.id).where(beyond))


def _sighting(row: Row[Any]) -> Sighting:
    values = checked(verifiers, row)
    return Sighting(**{name: values[name] for name in Sighting.__dataclass_fields__})
