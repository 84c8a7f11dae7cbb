"""The database's URL: which ones this program knows, several hosts as libpq writes them, and what of it may be shown.

How it is connected to is defined in `engines`.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

HIGHEST_PORT: Final = 65535
_SEVERAL = re.compile(
    r"(?P<before>\w+(?:\+\w+)?://(?>(?:[^:/@]*(?::[^@]*)?@)?))(?P<hosts>[^/?]*,[^/?]*)(?P<after>.*)"
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]*))?")
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
    """The URL is not one of a database that this program knows; says what to do, and nothing secret."""


def parse(url: str) -> URL:
    """Return the URL with the driver that is used here, several hosts as its `host` and `port`; raise BadURL."""
    scheme, colon, rest = url.partition("://")
    url = f"{scheme.lower()}{colon}{rest}" if colon else url  # RFC 3986: a scheme has no case
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
            _require_options(parsed)
            parsed = _with_decoded_host(parsed.set(drivername="postgresql+psycopg"))
            _require_names(parsed)
            return _to_one_that_writes(parsed)
        case "sqlite" if _is_file(parsed):
            return parsed.set(drivername="sqlite+pysqlite")
        case "sqlite":
            raise BadURL("ISSUER_DATABASE_URL must be sqlite:///FILE and nothing more")
    raise BadURL(
        f"ISSUER_DATABASE_URL names {parsed.get_backend_name()}; this program knows sqlite:/// and postgresql://"
    )


def _is_file(url: URL) -> bool:
    """Whether a URL of SQLite names a file, and nothing that SQLite or its driver would ignore."""
    ignored = url.host or url.port or url.username or url.password or url.query
    return url.database not in {None, "", ":memory:"} and not ignored


def of_file(path: Path) -> str:
    """Return the URL of SQLite for a file, which `parse` reads as it was meant."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def shown(url: URL) -> str:
    """Return what may be shown of a URL of PostgreSQL: neither the password nor any option, but every host."""
    bare = url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)
    hosts, ports = (_listed(url, name) for name in ("host", "port"))
    if not hosts:
        return bare
    # The folder of a socket in the one form that this program, libpq and its programs read.
    hosts = [quote(host, safe="") if host.startswith("/") else host for host in hosts]
    told = [f"[{host}]" if ":" in host and "port" in url.query else host for host in hosts]
    told = [
        f"{host}:{port}" if port else host
        for host, port in zip(told, ports or [""] * len(told), strict=False)
    ]
    return _BEFORE_HOSTS.sub(lambda before: before[0] + ",".join(told), bare, count=1)


def for_programs(url: URL) -> str:
    """Return the URL of PostgreSQL for its own programs: with every option of theirs, and without passwords.

    Options decide which tables are meant (`search_path`) and who is trusted (`sslmode`).
    """
    from psycopg.pq import Conninfo  # noqa: PLC0415 - an issuer on SQLite does not need it

    public = {option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar != b"*"}
    options = {
        name: value for name, value in url.query.items() if name in public - {"host", "port"} and value != ""
    }
    address = shown(url).replace(":***@", "@", 1)
    return f"{address}?{urlencode(options, quote_via=quote, safe='/')}" if options else address


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


def _require_options(url: URL) -> None:
    """Raise BadURL for an option that libpq does not know, or that would change what this program relies on."""
    from psycopg.pq import Conninfo  # noqa: PLC0415 - an issuer on SQLite does not need it

    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - _NOT_TO_CHOOSE
    before = {
        "user": url.username,
        "password": url.password,
        "host": url.host,
        "port": url.port,
        "dbname": url.database,
    }
    for name, value in url.query.items():
        if name not in {*known, PREPARE_THRESHOLD}:
            raise BadURL(
                f"ISSUER_DATABASE_URL has the option {name[:40]!r}, which is none of PostgreSQL's or cannot be chosen"
            )
        if before.get(name):  # libpq takes the later one, and messages would tell the other
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r}, and says the same before its options")
        if not isinstance(value, str) and name not in {"host", "port"}:
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r} twice")
        form = _FORMS.get(name)
        if form and not form.fullmatch(str(value)):
            told = "a whole number, or none" if name == PREPARE_THRESHOLD else "a whole number"
            raise BadURL(f"ISSUER_DATABASE_URL has the option {name!r}, which must be {told}")


def _with_decoded_host(url: URL) -> URL:
    """Return the URL with its host percent-decoded, as libpq does: this is how the folder of a socket is written."""
    host = unquote(url.host or "")
    if host == (url.host or ""):
        return url
    if ":" in host and "/" not in host:  # an IPv6 address with its zone
        return url.set(host=host)
    if not host.startswith("/") or "host" in url.query:
        raise BadURL("ISSUER_DATABASE_URL has a percent-encoded host that is not the folder of a socket")
    query = {**url.query, "host": host, **({"port": str(url.port)} if url.port else {})}
    # `set` takes None for "leave it"; and as `host` SQLAlchemy would read a colon in it as the start of a port.
    return URL.create(url.drivername, url.username, url.password, database=url.database, query=query)


def _require_names(url: URL) -> None:
    """Raise BadURL for a host whose name cannot be asked for: the driver would raise what is no error of its own."""
    for host in [url.host or "", *_listed(url, "host")]:
        try:
            if not host.startswith("/"):
                host.encode("idna")
        except UnicodeError:
            raise BadURL(
                "ISSUER_DATABASE_URL has a host that is no name: a part is empty or too long"
            ) from None


def _to_one_that_writes(url: URL) -> URL:
    """Let one of several hosts be refused that is a replica, unless the URL says otherwise: it answers, read-only."""
    if len(_listed(url, "host")) < 2 or "target_session_attrs" in url.query:  # noqa: PLR2004
        return url
    return url.update_query_dict({"target_session_attrs": "read-write"})


def _listed(url: URL, name: str) -> list[str]:
    value = url.query.get(name, ())
    return value.split(",") if isinstance(value, str) else list(value)
