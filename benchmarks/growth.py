"""What sessions cost a real PostgreSQL: bytes, WAL, commits, and four ways to keep the tokens.

`python benchmarks/growth.py [--write]` measures for about three minutes on a server of its own in a temporary folder,
in the real schema and through the real code; `--write` puts the tables into docs/scaling.md. What a
node costs it is measured in `node`, how the layouts are made is told in `layouts`.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import psycopg
import typer

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
sys.path.append(str(HERE.parent / "tests"))

from asking import number, pgbench  # noqa: E402
from layouts import LAYOUTS, Layout, families_of, fill, token_of  # noqa: E402
from node import issuing, ring  # noqa: E402
from plot import write  # noqa: E402
from scaling import DOCUMENT, Section, count, with_tables  # noqa: E402
from support.postgresql import new_database, temporary_server  # noqa: E402

from issuer.database.database import Database  # noqa: E402
from issuer.maintenance.pruning import prune  # noqa: E402
from issuer.tokens.family_store import FamilyStore  # noqa: E402
from issuer.tokens.refresh import RefreshRotation, RefreshToken  # noqa: E402

ROWS = 100_000
ROTATIONS = 5_000
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


@contextmanager
def filled(
    server: str, layout: Layout, fillfactor: int = 100
) -> Iterator[tuple[Database, psycopg.Connection]]:
    """Make a database of that layout with so many families, each with one token, and look into it."""
    url = new_database(server)
    database = Database(url)
    database.migrate()
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, layout, ROWS, fillfactor)
        yield database, connection
    database.close()


def sizes(server: str) -> Section:
    """Return the bytes of one row with its share of the indexes."""
    rows = []
    with filled(server, LAYOUTS["one table"]) as (_, connection):
        for table in ("families", "refresh_tokens"):
            heap, indexes = (
                number(connection, f"SELECT {size}('{table}')") / ROWS
                for size in ("pg_table_size", "pg_indexes_size")
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
        digest, seed, proof = (os.urandom(32) for _ in range(3))
        fresh = RefreshToken(digest, found[1].id, now + timedelta(days=30), seed, proof)
        assert store.rotate(RefreshRotation(found[0], fresh, now))  # noqa: S101
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


def commits(server: str) -> Section:
    """Return the rotations a second of the database by itself, clients on the same cores: the best of three."""
    rows = []
    with filled(server, LAYOUTS["one table"]) as (database, connection):
        spent: list[float] = []
        rotate(database, families_of(0, 500, ROWS), spent.append)
        url = server.removesuffix("postgres") + connection.info.dbname
        for clients in (1, 8, 32):
            rates = [
                [pgbench(url, ROTATE, clients, f"-c synchronous_commit={kept}") for kept in ("on", "off")]
                for _ in range(3)
            ]
            rows.append([str(clients), *(count(max(each)) for each in zip(*rates, strict=True))])
    rows.append(
        ["1, our code in Python", count(1 / min(map(statistics.median, (spent[:250], spent[250:])))), ""]
    )
    return Section("commits", ["connections", "rotations/s, durable", "synchronous_commit off"], rows)


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
                connection.execute(
                    "UPDATE refresh_tokens SET expires_at = now() - '1 day'::interval"
                    " WHERE expires_at < now() + '1 day'::interval"
                )
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
    parts = (issuing, sizes, wal, commits, ring, partitions)
    with temporary_server(durable=True) as server:
        found = []
        for part in parts:
            found.append(part(server))
            found[-1].show()
    if put:
        tables = {section.name: section.markdown() for section in found}
        write(DOCUMENT, with_tables(DOCUMENT.read_text("utf-8"), tables))


if __name__ == "__main__":
    typer.run(main)
