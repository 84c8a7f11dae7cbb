"""The database's URL: which ones this program knows, several hosts as libpq writes them, and what of it may be shown.

How it is connected to is told in `engines`.
"""

import re
from typing import Final
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

HIGHEST_PORT: Final = 65535
_SEVERAL = re.compile(
    r"(?P<before>\w+(?:\+\w+)?://(?>(?:[^:/@]*(?::[^@]*)?@)?))(?P<hosts>[^/?]*,[^/?]*)(?P<after>.*)"
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]*))?")
_BEFORE_HOSTS = re.compile(r"\w+://(?:[^@/]*@)?")


class BadURL(ValueError):
    """The URL is not one of a database that this program knows; says what to do, and nothing secret."""


def parse(url: str) -> URL:
    """Return the URL with the driver that is used here, several hosts as its `host` and `port`; raise BadURL."""
    try:
        parsed = _of_several_hosts(url) or make_url(url)
    except (ArgumentError, ValueError) as error:
        if isinstance(error, BadURL):
            raise
        raise BadURL(
            "ISSUER_DATABASE_URL is not a database URL; use sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    if "@" in (parsed.host or ""):  # the rest of a password, which an error would tell as the host's name
        raise BadURL(
            "ISSUER_DATABASE_URL holds more than one @: percent-encode the one in the password, as %40"
        )
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            return _to_one_that_writes(parsed.set(drivername="postgresql+psycopg"))
        case "sqlite" if parsed.database not in {None, "", ":memory:"} and not parsed.query:
            return parsed.set(drivername="sqlite+pysqlite")
        case "sqlite":
            raise BadURL("ISSUER_DATABASE_URL must be sqlite:///FILE and nothing more")
    raise BadURL(
        f"ISSUER_DATABASE_URL names {parsed.get_backend_name()}; this program knows sqlite:/// and postgresql://"
    )


def shown(url: URL) -> str:
    """Return what may be shown of a URL of PostgreSQL: neither the password nor any option, but every host."""
    bare = url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)
    hosts, ports = (_listed(url, name) for name in ("host", "port"))
    if not hosts:
        return bare
    told = [f"[{host}]" if ":" in host and "port" in url.query else host for host in hosts]
    told = [
        f"{host}:{port}" if port else host
        for host, port in zip(told, ports or [""] * len(told), strict=False)
    ]
    return _BEFORE_HOSTS.sub(lambda before: before[0] + ",".join(told), bare, count=1)


def _of_several_hosts(url: str) -> URL | None:
    """Return a URL that names several hosts, as libpq writes it; None for any other; raise BadURL."""
    several = _SEVERAL.fullmatch(url)
    if several is None:
        return None
    hosts, ports = [], []
    for each in several["hosts"].split(","):
        host = _HOST.fullmatch(each)
        if host is None or int(host["port"] or 1) not in range(1, HIGHEST_PORT + 1):
            raise BadURL(
                "ISSUER_DATABASE_URL names several hosts, and one is not HOST, HOST:PORT or [IPv6]:PORT; "
                "use postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME, the password percent-encoded"
            )
        hosts.append(unquote(host["ipv6"] or host["name"]))
        ports.append(host["port"] or "")
    parsed = make_url(several["before"] + several["after"])
    if {"host", "port"} & parsed.query.keys():
        raise BadURL(
            "ISSUER_DATABASE_URL names its hosts twice: before the database's name, and as an option"
        )
    # SQLAlchemy's own form, host=a:1&host=b:2, knows no IPv6 addresses.
    return parsed.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})


def _to_one_that_writes(url: URL) -> URL:
    """Let one of several hosts be refused that is a replica, unless the URL says otherwise: it answers, read-only."""
    if len(_listed(url, "host")) < 2 or "target_session_attrs" in url.query:  # noqa: PLR2004
        return url
    return url.update_query_dict({"target_session_attrs": "read-write"})


def _listed(url: URL, name: str) -> list[str]:
    value = url.query.get(name, ())
    return value.split(",") if isinstance(value, str) else list(value)
