"""The database's URL: which ones are accepted, and what of a URL may be shown.

Hosts are read by libpq's own parser. How the database is connected to is defined in `engines`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

HIGHEST_PORT: Final = 65535
POSTGRESQL: Final = frozenset({"postgresql", "postgres"})
_PARTS: Final = re.compile(
    r"(?P<before>\w+(?:\+\w+)?://(?>(?:[^:/@]*(?::[^@]*)?@)?))(?P<hosts>[^/?]*)(?P<after>.*)"
)
PREPARE_THRESHOLD: Final = "prepare_threshold"
"""Our own option: how often a statement is executed before it is prepared; `0` or `none` never prepares."""
_NOT_TO_CHOOSE: Final = {"client_encoding", "replication"}
_INTEGER: Final = re.compile("[0-9]{1,9}")
_FORMS: Final = {
    PREPARE_THRESHOLD: re.compile("none|[0-9]{1,9}"),
    **dict.fromkeys(
        ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        _INTEGER,
    ),
    "tcp_user_timeout": _INTEGER,
}
_BEFORE_HOSTS = re.compile(r"\w+://(?:[^@/]*@)?")


class BadURL(ValueError):
    """The URL is not one that this program accepts; the message says what to change, and nothing secret."""


def parse(url: str) -> URL:
    """Return the URL with this program's driver; its hosts and ports are among the options. Raise BadURL."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()  # RFC 3986, section 3.1
    try:
        if scheme.partition("+")[0] in POSTGRESQL:
            return _postgresql(scheme + colon + rest)
        parsed = make_url(scheme + colon + rest)
    except (ArgumentError, ValueError) as error:
        if isinstance(error, BadURL):
            raise
        raise _malformed() from error
    name = parsed.get_backend_name()
    if name != "sqlite":
        raise BadURL(f"ISSUER_DATABASE_URL names {name}; this program knows sqlite:/// and postgresql://")
    if not _is_file(parsed):
        raise BadURL("ISSUER_DATABASE_URL must be sqlite:///FILE and nothing more")
    return parsed.set(drivername="sqlite+pysqlite")


def _malformed() -> BadURL:
    return BadURL(
        "ISSUER_DATABASE_URL is not a database URL; use sqlite:///FILE or postgresql://USER@HOST/NAME"
    )


def _postgresql(url: str) -> URL:
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise _malformed()
    parsed = make_url(parts["before"] + parts["after"]).set(drivername="postgresql+psycopg")
    if parts["hosts"]:
        hosts = _hosts(parts["hosts"])
        _require_once(parsed, hosts)
        parsed = parsed.update_query_dict(hosts)
    elif isinstance(parsed.query.get("host"), tuple):  # SQLAlchemy's own form: host=a:1&host=b:2
        parsed = parsed.update_query_dict(_hosts(",".join(parsed.query["host"])))
    _require_options(parsed)
    _require_names(parsed)
    return _to_one_that_writes(parsed)


def _hosts(addresses: str) -> dict[str, str]:
    """Return the options `host` and `port` for the hosts of a URL, as libpq reads them; raise BadURL."""
    from psycopg import ProgrammingError  # noqa: PLC0415 - an issuer on SQLite does not need it
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    if "@" in addresses:  # the rest of a password, which an error would show as the name of a host
        raise BadURL(
            "ISSUER_DATABASE_URL holds more than one @: percent-encode the one in the password, as %40"
        )
    try:
        read = conninfo_to_dict(f"postgresql://{addresses}")
    except ProgrammingError:
        read = {}
    hosts, ports = (str(read.get(name, "")).split(",") for name in ("host", "port"))
    if not all(hosts) or not all(map(_is_port, ports)):
        raise BadURL(
            "ISSUER_DATABASE_URL has a host that is not HOST, HOST:PORT or [IPv6]:PORT;"
            " use postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME, the password percent-encoded"
        )
    return {name: str(value) for name, value in read.items() if value}


def _is_port(text: str) -> bool:
    return not text or (text.isdecimal() and text.isascii() and 1 <= int(text) <= HIGHEST_PORT)


def _is_file(url: URL) -> bool:
    """Whether an SQLite URL names a file, and has no part that SQLite or its driver would ignore."""
    ignored = url.host or url.port or url.username or url.password or url.query
    return url.database not in {None, "", ":memory:"} and not ignored


def of_file(path: Path) -> str:
    """Return the SQLite URL for a file; `parse` returns the same path."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def shown(url: URL) -> str:
    """Return a URL of PostgreSQL with all hosts, and without the password and all options, to show it."""
    bare = url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)
    hosts, ports = (_listed(url, name) for name in ("host", "port"))
    addresses = ",".join(map(_address, hosts, ports or [""] * len(hosts)))
    return _BEFORE_HOSTS.sub(lambda before: before[0] + addresses, bare, count=1)


def _address(host: str, port: str) -> str:
    """Return a host and its port as libpq and its programs read them in a URL."""
    if host.startswith("/"):  # the directory of a socket
        host = quote(host, safe="")
    elif ":" in host:
        host = f"[{quote(host, safe=':')}]"
    return f"{host}:{port}" if port else host


def for_programs(url: URL) -> str:
    """Return the URL for programs of PostgreSQL, with all options of libpq, and without passwords.

    Options decide which tables are used (`search_path`) and which server is trusted (`sslmode`).
    """
    from psycopg.pq import Conninfo  # noqa: PLC0415 - an issuer on SQLite does not need it

    public = {option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar != b"*"}
    options = {
        name: value for name, value in url.query.items() if name in public - {"host", "port"} and value != ""
    }
    address = shown(url).replace(":***@", "@", 1)
    return f"{address}?{urlencode(options, quote_via=quote, safe='/')}" if options else address


def _require_options(url: URL) -> None:
    """Raise BadURL for an option that libpq does not have, or that this program must set itself."""
    from psycopg.pq import Conninfo  # noqa: PLC0415 - an issuer on SQLite does not need it

    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - _NOT_TO_CHOOSE
    _require_once(url, {"user": url.username, "password": url.password, "dbname": url.database})
    for name, value in url.query.items():
        if name not in {*known, PREPARE_THRESHOLD}:
            raise BadURL(
                f"ISSUER_DATABASE_URL has the option {name[:40]!r}, which is unknown or cannot be set"
            )
        if not isinstance(value, str):
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r} twice")
        form = _FORMS.get(name)
        if form and not form.fullmatch(str(value)):
            expected = "a whole number, or none" if name == PREPARE_THRESHOLD else "a whole number"
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r}, which must be {expected}")


def _require_once(url: URL, before: Mapping[str, object]) -> None:
    """Raise BadURL for an option that is also given `before` the options: libpq would use the later one."""
    for name, value in before.items():
        if value and name in url.query:
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r}, which is also set before the options")


def _require_names(url: URL) -> None:
    """Raise BadURL for a host that cannot be looked up: for some, the driver raises errors that are not its own."""
    for host in _listed(url, "host"):
        if host.startswith("/"):
            continue
        if "/" in host:
            raise BadURL(
                "ISSUER_DATABASE_URL has a percent-encoded host that is not the directory of a socket"
            )
        try:
            host.encode("idna")
        except UnicodeError:
            raise BadURL(
                "ISSUER_DATABASE_URL has an invalid host name: a part is empty or too long"
            ) from None


def _to_one_that_writes(url: URL) -> URL:
    """Return the URL so that, of several hosts, replicas are refused, unless the URL says otherwise."""
    if len(_listed(url, "host")) < 2 or "target_session_attrs" in url.query:  # noqa: PLR2004
        return url
    return url.update_query_dict({"target_session_attrs": "read-write"})


def _listed(url: URL, name: str) -> list[str]:
    value = str(url.query.get(name, ""))
    return value.split(",") if value else []
