"""Inspects a database: whether its tables are this program's, and their revision. Nothing is changed.

Only a database with this program's version table is used or migrated. Migrations are in `migrations`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text

PROGRAM: Final = "jwks-issuer"
VERSION_TABLE: Final = "issuer_schema_version"
"""Not alembic's default name: another program that uses alembic in the same database would read this revision."""

CREATE_VERSION_TABLE: Final = (
    f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY,"
    f" program VARCHAR(32) DEFAULT '{PROGRAM}' NOT NULL)"
)
_COLUMNS: Final = {"version_num", "program"}

_RELATIONS_OF_POSTGRESQL: Final = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('r', 'p') AS is_table
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
    ORDER BY n.nspname, c.relname
"""  # tables of extensions are ignored


@dataclass(frozen=True)
class Schema:
    """The schema of a database: empty, or this program's tables at `revision`."""

    revision: str | None = None


class ForeignTables(Exception):
    """The database contains tables of another program, named in `held`."""

    def __init__(self, held: str) -> None:
        super().__init__(held)
        self.held = held


class Damaged(Exception):
    """The database is this program's, and tables or the revision are missing; the message says which."""


class WrongSearchPath(Exception):
    """The search_path leads to another schema than that of this program's tables, or to none."""


def inspect_schema(connection: Connection, tables: Collection[str], newest: str) -> Schema:
    """Return the schema of the database; `tables` are those of the revision `newest`.

    Raise ForeignTables, Damaged or WrongSearchPath.
    """
    place, held = _held(connection)
    if VERSION_TABLE in held:
        revision = _marked_revision(connection, held, place)
        missing = sorted(set(tables) - held.keys()) if revision == newest else []
        if missing:
            raise Damaged(f"the tables {', '.join(missing)} are missing")
        return Schema(revision)
    if held:
        raise ForeignTables(_named(held))
    return Schema()


def _held(connection: Connection) -> tuple[str | None, Mapping[str, bool]]:
    """Return the schema where tables are created, and its relations: for each name, whether it is a table."""
    if connection.dialect.name == "sqlite":
        looked = inspect(connection)
        tables = dict.fromkeys(looked.get_table_names(), True)
        return None, {**tables, **dict.fromkeys(looked.get_view_names(), False)}
    place: str | None = connection.scalar(text("SELECT pg_catalog.current_schema()"))
    if place is None:
        path = connection.scalar(text("SHOW search_path"))
        raise WrongSearchPath(
            f"no schema of the search_path ({path}) exists: create one (CREATE SCHEMA NAME), or correct the"
            " search_path"
        )
    rows = connection.execute(text(_RELATIONS_OF_POSTGRESQL)).all()
    for row in rows:
        if row.name == VERSION_TABLE and row.schema != place:
            raise WrongSearchPath(
                f"the tables of this program are in the schema {row.schema}, but new ones would be created in"
                f" {place}, which comes before it in the search_path; put {row.schema} first: ALTER ROLE CURRENT_USER"
                f" SET search_path = {connection.dialect.identifier_preparer.quote(row.schema)}"
            )
    return place, {row.name: row.is_table for row in rows if row.schema == place}


def _marked_revision(connection: Connection, held: Mapping[str, bool], place: str | None) -> str:
    columns = {column["name"] for column in inspect(connection).get_columns(VERSION_TABLE, schema=place)}
    if not held[VERSION_TABLE] or columns != _COLUMNS:
        raise ForeignTables(f"a table {VERSION_TABLE} that this program did not create")
    rows = connection.execute(text(f"SELECT version_num, program FROM {VERSION_TABLE}")).all()  # noqa: S608
    if any(row.program != PROGRAM for row in rows):
        raise ForeignTables(f"a table {VERSION_TABLE} of another program")
    if len(rows) != 1 or not (str(rows[0].version_num).isdecimal() and len(rows[0].version_num) == 4):  # noqa: PLR2004
        raise Damaged(f"{VERSION_TABLE} does not hold one revision of this program")
    return str(rows[0].version_num)


def _named(held: Mapping[str, bool], most: int = 5) -> str:
    names = sorted(held)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def create_version_table(connection: Connection) -> None:
    """Create the version table unless it exists: alembic's own would lack the name of the program."""
    connection.execute(text(CREATE_VERSION_TABLE))
