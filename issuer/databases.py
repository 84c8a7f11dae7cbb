"""The databases of a process: one for requests, and one for the key ring.

What a database is, is defined in `database.database`; `wiring` gives each domain its own.
"""

from collections.abc import Callable
from datetime import timedelta

from issuer.clock import Clock, system_clock
from issuer.database.database import Database, uptime_microseconds
from issuer.settings.settings import Settings


def databases_for(settings: Settings, clock: Clock, *, reads: bool) -> tuple[Database, Database]:
    """Return the database for requests and that for the ring: requests must not delay the maintenance of the ring."""
    url = settings.database_url.get_secret_value()
    database, ring_database = Database(url, reads=reads), Database(url, reads=reads)
    if clock is not system_clock:
        database.shared_clock = shared_clock_by(clock)
    return database, ring_database


def shared_clock_by(clock: Clock) -> Callable[[], int]:
    """Return a `Database.shared_clock` that advances as fast as `clock`, and starts at the uptime of this machine."""
    began, machine = clock(), uptime_microseconds()
    return lambda: machine + (clock() - began) // timedelta(microseconds=1)
