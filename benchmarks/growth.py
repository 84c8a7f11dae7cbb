"""What sessions cost a real PostgreSQL: bytes, WAL, commits, the key ring's traffic, and four ways to keep the tokens.

`python benchmarks/growth.py [--write]` measures for about three minutes on a server of its own in a temporary folder,
in the real schema and through the real code; `--write` puts the tables into docs/scaling.md. How the layouts other
than ours are made is told in `layouts`.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from pydantic import SecretStr
from sqlalchemy import Engine, event

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
sys.path.append(str(HERE.parent / "tests"))

from layouts import LAYOUTS, Layout, fill, families_of, token_of  # noqa: E402
from plot import write  # noqa: E402
from postgresql import new_database, temporary_server  # noqa: E402
from scaling import DOCUMENT, Section, count, with_tables  # noqa: E402

from issuer.nodes import Heartbeat  # noqa: E402
from issuer.settings import Settings  # noqa: E402
from issuer.store.database import Database  # noqa: E402
from issuer.store.families import FamilyStore  # noqa: E402
from issuer.store.heartbeats import HeartbeatStore  # noqa: E402
from issuer.store.pruning import prune  # noqa: E402
from issuer.tokens import RefreshToken  # noqa: E402
from issuer.wiring import build  # noqa: E402

ROWS = 100_000
ROTATIONS = 5_000
PROCESSES = 4_000
"""Whose heartbeats are there when one more is sent: 1000 nodes of four workers."""
PASSPHRASE = "a passphrase for a measurement"  # noqa: S105 - of a database that is thrown away
ROTATE = """
\\set i random(1, 100000)
SELECT * FROM refresh_tokens t JOIN families f ON t.family_id = f.id WHERE t.digest = sha256(:i::text::bytea);
BEGIN;
UPDATE refresh_tokens SET used_at = now() WHERE digest = sha256(:i::text::bytea) AND family_id IN
  (SELECT id FROM families WHERE id = md5(:i::text)::uuid::text AND ended_at IS NULL FOR SHARE);
INSERT INTO refresh_tokens VALUES (sha256(gen_random_uuid()::text::bytea), md5(:i::text)::uuid::text,
  now() + '30 days'::interval, sha256('seed'), NULL);
COMMIT;
"""
LOOK = "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT document FROM key_ring;\nCOMMIT;\n"


@contextmanager
def filled(server: str, layout: Layout, fillfactor: int = 100) -> Iterator[tuple[Database, psycopg.Connection]]:
    """Make a database of that layout with so many families, each with one token, and look into it."""
    url = new_database(server)
    database = Database(url)
    database.migrate()
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, layout, ROWS, fillfactor)
        yield database, connection
    database.close()


def number(connection: psycopg.Connection, query: str) -> float:
    """Return the one number that a query asks for."""
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    return float(row[0]) if row else 0


def sizes(server: str) -> Section:
    """Return the bytes of one row with its share of the indexes."""
    rows = []
    with filled(server, LAYOUTS["one table"]) as (_, connection):
        for table in ("families", "refresh_tokens"):
            heap, indexes = (
                number(connection, f"SELECT {size}('{table}')") / ROWS for size in ("pg_table_size", "pg_indexes_size")
            )
            rows.append([f"`{table}`", f"{heap:.0f}", f"{indexes:.0f}", f"{heap + indexes:.0f}"])
    return Section("sizes", ["bytes a row", "table", "indexes", "together"], rows)


def rotate(database: Database, numbers: range, per: Callable[[float], None] | None = None) -> None:
    """Rotate the tokens of those families, as a request does; tell `per` the seconds of each."""
    store, now = FamilyStore(database), datetime.now(UTC)
    for each in numbers:
        began = time.perf_counter()
        found = store.find(token_of(each))
        assert found is not None  # noqa: S101 - they were filled in
        fresh = RefreshToken(os.urandom(32), found[1].id, now + timedelta(days=30), os.urandom(32))
        assert store.rotate(found[0], fresh, now)  # noqa: S101
        if per:
            per(time.perf_counter() - began)


def wal(server: str) -> Section:
    """Return what a rotation writes, right after a checkpoint and later, by fillfactor."""
    rows = []
    for fillfactor in (100, 80):
        with filled(server, LAYOUTS["one table"], fillfactor) as (database, connection):
            connection.execute("VACUUM ANALYZE refresh_tokens")
            connection.execute("CHECKPOINT")
            for name, begin in (("after a checkpoint", 0), ("later", 1), ("later still", 2)):
                before = number(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'")
                rotate(database, families_of(begin, ROTATIONS, ROWS))
                written = number(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'") - before
                rows.append([f"{name}, fillfactor {fillfactor}", count(written / ROTATIONS)])
            time.sleep(1.5)  # until the server has written down its statistics
            seen = "FROM pg_stat_user_tables WHERE relname = 'refresh_tokens'"
            hot = number(connection, f"SELECT n_tup_hot_upd::float / n_tup_upd {seen}")
            rows[-3:] = [[*row, f"{100 * hot:.0f} %"] for row in rows[-3:]]
    return Section("wal", ["a rotation", "bytes of WAL", "HOT updates"], rows)


def pgbench(url: str, script: str, clients: int, options: str = "", seconds: int = 5) -> float:
    """Return the transactions per second of so many clients."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        # Built of constants and of numbers of our own.
        command = ["pgbench", "-n", "-M", "prepared", "-f", file.name, "-c", str(clients), "-j", "2"]
        environment = {**os.environ, "PGOPTIONS": options}
        done = subprocess.run(  # noqa: S603
            [*command, "-T", str(seconds), url], check=True, capture_output=True, text=True, env=environment
        )
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    return float(found[1]) if found else 0


def commits(server: str) -> Section:
    """Return the rotations a second that the database does by itself, clients on the same cores."""
    rows = []
    with filled(server, LAYOUTS["one table"]) as (database, connection):
        url = server.removesuffix("postgres") + connection.info.dbname
        for clients in (1, 8, 32):
            cells = [str(clients)]
            for kept in ("on", "off"):
                cells.append(count(pgbench(url, ROTATE, clients, f"-c synchronous_commit={kept}")))
            rows.append(cells)
        spent: list[float] = []
        rotate(database, families_of(0, 500, ROWS), spent.append)
    rows.append(["1, our code in Python", count(1 / statistics.median(spent)), ""])
    return Section("commits", ["connections", "rotations/s, durable", "synchronous_commit off"], rows)


def ring(server: str) -> Section:
    """Return what a process that serves asks of the database, and how often the database could answer."""
    url = new_database(server)
    settings = Settings(database_url=SecretStr(url), keys="database", keys_passphrase=SecretStr(PASSPHRASE))
    issuer = build(settings)
    issuer.node.refresh()
    issuer.node.refresh()
    statements = 0

    def counted(*_: object) -> None:
        nonlocal statements
        statements += 1

    event.listen(Engine, "before_cursor_execute", counted)
    with psycopg.connect(url, autocommit=True) as connection:
        asked = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        time.sleep(1.5)
        before = number(connection, asked)
        for _ in range(100):
            issuer.node.refresh()
        time.sleep(1.5)
        transactions = (number(connection, asked) - before) / 100
    event.remove(Engine, "before_cursor_execute", counted)
    beat = heartbeat(issuer.heartbeats, issuer.policy)
    looks = pgbench(url, LOOK, 8)
    issuer.close()
    rows = [
        ["transactions of a look at the ring", f"{transactions:.1f}"],
        ["statements of it", f"{statements / 100:.1f}"],
        ["reads of the ring that the server does a second, 8 connections", count(looks)],
        [f"a heartbeat among {PROCESSES} processes, milliseconds", f"{beat * 1000:.1f}"],
    ]
    return Section("ring", ["the key ring", "measured"], rows)


def heartbeat(store: HeartbeatStore, policy: object) -> float:
    """Return the median seconds of a heartbeat while as many processes send theirs."""
    now, spent = datetime.now(UTC), []
    for each in range(PROCESSES + 500):
        beat = Heartbeat.of(f"process {each % PROCESSES}", "node", 1, policy, now)  # type: ignore[arg-type]
        began = time.perf_counter()
        store.beat(beat, now - timedelta(hours=1))
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[PROCESSES:])


def partitions(server: str) -> Section:
    """Return what each layout does to a look-up, a rotation, and letting a thirtieth go."""
    rows = []
    for name, layout in LAYOUTS.items():
        with filled(server, layout) as (database, connection):
            connection.execute("ANALYZE")
            finds, rotations = [], []
            store = FamilyStore(database)
            for each in families_of(0, 500, ROWS):
                began = time.perf_counter()
                store.find(token_of(each))
                finds.append(time.perf_counter() - began)
            rotate(database, families_of(0, 500, ROWS), rotations.append)
            began, gone = time.perf_counter(), 0
            if layout.drop:
                gone = int(number(connection, layout.count_of_drop))
                connection.execute(layout.drop)  # type: ignore[arg-type]
            else:
                connection.execute("UPDATE refresh_tokens SET expires_at = now() - '1 day'::interval"
                                   " WHERE expires_at < now() + '1 day'::interval")
                began = time.perf_counter()
                while some := prune(database, datetime.now(UTC)):
                    gone += some
            lasted = time.perf_counter() - began
            row = [f"{statistics.median(each) * 1e6:.0f}" for each in (finds, rotations)]
            rows.append([name, *row, count(gone), f"{lasted * 1000:.0f}"])
    head = ["layout", "look-up, us", "look-up and rotation, us", "rows let go", "that took, ms"]
    return Section("partitions", head, rows)


def main(
    *, put: Annotated[bool, typer.Option("--write", help="Put the tables into docs/scaling.md.")] = False
) -> None:
    """Measure it all, and perhaps write it down."""
    parts = (sizes, wal, commits, ring, partitions)
    with tempfile.TemporaryDirectory() as folder, temporary_server(Path(folder), durable=True) as server:
        found = []
        for part in parts:
            found.append(part(server))
            found[-1].show()
    if put:
        tables = {section.name: section.markdown() for section in found}
        write(DOCUMENT, with_tables(DOCUMENT.read_text("utf-8"), tables))


if __name__ == "__main__":
    typer.run(main)
