"""Copies all rows of one database into another, in batches, within the transactions of its caller.

When a copy is allowed, and what must hold after it, is decided in `move`.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Table, func, insert, select, update

from issuer.audit.events import continue_numbers
from issuer.audit.store import audit_head
from issuer.database.database import metadata
from issuer.database.rows import checked
from issuer.keyring.store import key_ring, ring_values
from issuer.keyring.tombstone import read_tombstone
from issuer.signing.pem_database import private_keys
from issuer.tokens.refresh_rotation import refresh_tokens

BATCH_ROWS = 1000
"""There may be millions of rows: never all of them in memory."""

Progress = Callable[[str, int], None]
"""Called with the name of a table, and how many of its rows were copied since the last call."""


def count_rows(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table except `audit_head`, which always has one."""
    tables = [table for table in metadata.sorted_tables if table is not audit_head]
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def copy_tables(source: Connection, target: Connection, progress: Progress) -> dict[str, int]:
    """Copy every table except `private_keys`, and return how many rows of each were copied.

    A key ring that is marked as moved is copied without its tombstone. Raise DatabaseDamaged for a row with values of
    other types than its columns.
    """
    copied = {}
    for table in metadata.sorted_tables:
        if table is audit_head:
            head = source.execute(select(audit_head)).mappings().one()
            target.execute(update(audit_head).values(**head))
        elif table is not private_keys:
            copied[table.name] = _copy_table(table, source, target, progress)
    continue_numbers(target)
    return copied


def store_private_keys(target: Connection, pems: Mapping[str, bytes]) -> None:
    """Insert the PEM texts of private keys by their kids."""
    rows = [{"kid": kid, "pem": pem, "kept": True} for kid, pem in pems.items()]
    if rows:
        target.execute(insert(private_keys), rows)


def _copy_table(table: Table, source: Connection, target: Connection, progress: Progress) -> int:
    count = 0
    found = source.execute(select(table).execution_options(yield_per=BATCH_ROWS))
    for batch in found.partitions():
        rows = [_adapted(table, checked(table, row)) for row in batch]
        target.execute(insert(table), rows)
        count += len(rows)
        progress(table.name, len(rows))
    return count


def _adapted(table: Table, row: dict[str, object]) -> dict[str, object]:
    """Return `row` as it is true in another database."""
    if table is key_ring:
        tombstone = read_tombstone(row["document"])
        return {**row, **ring_values(tombstone)} if tombstone else row
    if table is refresh_tokens:  # ticks are by the clock of the source, which no other can be compared with
        return {**row, "issued_tick": None}
    return row
