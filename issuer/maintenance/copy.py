"""All rows of one database taken into another, a few at a time; each within a transaction of the caller's.

When that may be done, and what must hold afterwards, is defined in `move`.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Table, func, insert, select, update

from issuer.audit.store import audit_head
from issuer.database.database import metadata
from issuer.database.rows import require_types
from issuer.keyring.store import key_ring, ring_values
from issuer.keyring.tombstone import read_tombstone
from issuer.signing.pem_database import private_keys
from issuer.tokens.refresh_rotation import refresh_tokens

ROWS_AT_ONCE = 1000
"""Of which there may be millions: never all of them in memory."""


def counted(connection: Connection) -> dict[str, int]:
    """Return how many rows each table has but `audit_head`, which has one from the beginning."""
    tables = [table for table in metadata.sorted_tables if table is not audit_head]
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def copy(source: Connection, target: Connection, told: Callable[[str, int], None]) -> dict[str, int]:
    """Copy every table but that of private keys, and return how many rows of each there were.

    A ring that was replaced by a tombstone is copied itself. `told` hears how many rows of a table were copied since.
    Raise DatabaseDamaged for a row with values of other types.
    """
    copied = {}
    for table in metadata.sorted_tables:
        if table is audit_head:
            head = source.execute(select(audit_head)).mappings().one()
            target.execute(update(audit_head).values(**head))
        elif table is not private_keys:
            copied[table.name] = _copy_table(table, source, target, told)
    return copied


def keep(target: Connection, pems: Mapping[str, bytes]) -> None:
    """Keep the PEM texts of private keys by their kids."""
    rows = [{"kid": kid, "pem": pem, "kept": True} for kid, pem in pems.items()]
    if rows:
        target.execute(insert(private_keys), rows)


def _copy_table(
    table: Table, source: Connection, target: Connection, told: Callable[[str, int], None]
) -> int:
    count = 0
    found = source.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))
    for some in found.partitions():
        for row in some:
            require_types(table, row)
        rows = [dict(row._mapping) for row in some]  # noqa: SLF001 - its public name
        target.execute(insert(table), [_adapted(table, row) for row in rows])
        count += len(rows)
        told(table.name, len(rows))
    return count


def _adapted(table: Table, row: dict[str, object]) -> dict[str, object]:
    """Return `row` as it is true in another database."""
    if table is key_ring:
        tombstone = read_tombstone(row["document"])
        return {**row, **ring_values(tombstone)} if tombstone else row
    if table is refresh_tokens:  # ticks are by the clock of the source, which no other can be compared with
        return {**row, "issued_tick": None}
    return row
