"""Questions to a PostgreSQL that is being measured; what they are asked for is left to `growth` and `node`."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import psycopg

TICK = 1 / os.sysconf("SC_CLK_TCK")


def number(connection: psycopg.Connection, query: str) -> float:
    """Return the one number that a query asks for."""
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    return float(row[0]) if row else 0


def pgbench(url: str, script: str, clients: int, options: str = "", seconds: int = 3) -> float:
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


def cpu_seconds(connection: psycopg.Connection) -> float:
    """Return the CPU time that the connections of others to this database have spent so far."""
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    spent = 0
    for (pid,) in connection.execute(asked).fetchall():
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
    return spent * TICK
