"""The table of the audit: order, and refusal of changes, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.stores import ENTRY

from issuer.audit.chain import Entry, integrity_error
from issuer.audit.store import AuditStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_the_audit_is_complete_and_verifies_when_many_processes_append_at_once(
    url: str, database: Database
) -> None:
    entries = [replace(ENTRY, ring_version=number, reason='why "ß"\\') for number in range(12)]

    def record(entry: Entry) -> None:
        own = Database(url)
        try:
            AuditStore(own).record(entry)
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, entries))
    links, head = AuditStore(database).chain()
    assert integrity_error(links, head) is None
    assert sorted((link.entry for link in links), key=lambda entry: entry.ring_version or 0) == entries


@pytest.mark.parametrize("change", ["UPDATE audit SET reason = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_changes_of_audit_entries(database: Database, change: str) -> None:
    AuditStore(database).record(ENTRY)
    with pytest.raises((DatabaseUnavailable, IntegrityError)), database.write() as connection:
        connection.execute(text(change))
    links, head = AuditStore(database).chain()
    assert [link.entry for link in links] == [ENTRY]
    assert integrity_error(links, head) is None


def test_a_changed_audit_can_be_read_and_appended_to_but_does_not_verify(database: Database) -> None:
    store = AuditStore(database)
    for number in range(3):
        store.record(replace(ENTRY, ring_version=number))
    with database.write() as connection:
        connection.execute(text("UPDATE audit_head SET number = 1, digest = ''"))
    store.record(ENTRY)
    links, head = store.chain()
    assert [link.number for link in links] == [1, 2, 3, 4]
    assert "entry 4 was changed" in str(integrity_error(links, head))
    with pytest.raises((DatabaseUnavailable, IntegrityError)), database.write() as connection:
        connection.execute(text("DELETE FROM audit_head"))
