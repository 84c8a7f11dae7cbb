"""What ISSUER_DATABASE_URL may say, and what of it is shown; one host against real servers is in `test_database`."""

import os
from pathlib import Path
from typing import Any

import pytest

from issuer.checks.installation import run_checks
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.database.url import BadURL, parse, shown

WRITES = {"target_session_attrs": "read-write"}


def connected_with(url: str) -> dict[str, Any]:
    """Return the arguments that the driver gets."""
    parsed = parse(url)
    dialect = parsed.get_dialect()()
    arguments = dialect.create_connect_args(parsed)[1]
    return {name: value for name, value in arguments.items() if name not in {"user", "password", "context"}}


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("a:5432,b:5433", {"host": "a,b", "port": "5432,5433"}),
        ("a,b", {"host": "a,b", "port": ","}),
        ("a:5432,b", {"host": "a,b", "port": "5432,"}),
        ("a,b:5433,c", {"host": "a,b,c", "port": ",5433,"}),
        ("[::1]:5432,[2001:db8::2]", {"host": "::1,2001:db8::2", "port": "5432,"}),
        ("127.0.0.1:1,[::1]:2", {"host": "127.0.0.1,::1", "port": "1,2"}),
        ("%2Frun%2Fpostgresql,b", {"host": "/run/postgresql,b", "port": ","}),
    ],
)
@pytest.mark.parametrize("user", ["", "u@", "u:p%40%2C%2Fw@", "u:p,w@", "u:p/w@"])
def test_several_hosts_are_read_as_libpq_reads_them(user: str, hosts: str, expected: dict[str, str]) -> None:
    assert connected_with(f"postgresql://{user}{hosts}/name") == {"dbname": "name", **expected, **WRITES}


@pytest.mark.parametrize("query", ["host=a:1&host=b:2", "host=a,b&port=1,2"])
def test_several_hosts_can_be_options(query: str) -> None:
    assert connected_with(f"postgresql://u@/name?{query}") == {
        "dbname": "name",
        "host": "a,b",
        "port": "1,2",
        **WRITES,
    }


def test_a_replica_is_refused_unless_the_url_allows_it() -> None:
    expected = connected_with("postgresql://u@a,b/name?target_session_attrs=any&sslmode=require")
    assert expected == {
        "dbname": "name",
        "host": "a,b",
        "port": ",",
        "target_session_attrs": "any",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@a/name", {"host": "a"}),
        ("postgresql://u:p,w@a:5433/name", {"host": "a", "port": "5433"}),
        ("postgres://[::1]:5433/name?sslmode=require", {"host": "::1", "port": "5433", "sslmode": "require"}),
        ("postgresql+psycopg://u@/name?host=/run/postgresql", {"host": "/run/postgresql"}),
        ("postgresql://u:p@%2Frun%2Fpostgresql/name", {"host": "/run/postgresql"}),
        ("postgresql://u@%2Frun%2fpg%3Aa:5433/name", {"host": "/run/pg:a", "port": "5433"}),
        ("postgresql://u@[fe80::1%25eth0]/name", {"host": "fe80::1%eth0"}),
    ],
)
def test_one_host_is_read_as_libpq_reads_it(url: str, expected: dict[str, Any]) -> None:
    assert connected_with(url) == {"dbname": "name", **expected}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@a:5432,b:x/name",
        "postgresql://u:secret@a:5432,/name",
        "postgresql://u:secret@,b/name",
        "postgresql://u:secret@a:0,b/name",
        "postgresql://u:secret@a:65536,b/name",
        "postgresql://u:secret@[::1,b/name",
        "postgresql://u:secret@::1,b/name",
        "postgresql://u:x@secret@a,b/name",
        "postgresql://u:x@secret@a/name",
        "postgresql://u:secret@a,b/name?host=c",
        "postgresql://u:secret@/name?host=a,b&port=1,2,3",
        "postgresql://u:secret@/name?host=a:secret&host=b",
        "postgresql://u:secret@a%2Fb/name",
        "postgresql://u:secret@%2Frun/name?host=c",
        "mysql://u:secret@a,b/name",
        "sqlite://a,b/secret",
    ],
)
def test_an_invalid_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="ISSUER_DATABASE_URL") as refusal:
        Database(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "option",
    [
        "prepare_threshold=-1",
        "prepare_threshold=often",
        "prepare_threshold=1.5",
        "prepare_threshold=0&prepare_threshold=1",
        "autocommit=1",
        "row_factory=secret",
        "cursor_factory=secret",
        "context=secret",
        "nonsense=secret",
        "sslmode=require&sslmode=disable",
        "connect_timeout=secret",
        "connect_timeout=-1",
        "keepalives_idle=5s",
        "tcp_user_timeout=x",
        "client_encoding=latin1",
        "replication=database",
        "host=other",
        "port=1",
        "user=secret",
        "password=secret",
        "dbname=other",
    ],
)
def test_an_invalid_option_is_refused_with_one_line(option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(DatabaseUnavailable, match=f"ISSUER_DATABASE_URL has the option '{name}'") as refusal:
        Database(f"postgresql://u:secret@h:5432/name?{option}")
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:secret@%2Frun%2Fpostgresql/name", "postgresql://u:***@%2Frun%2Fpostgresql/name"),
        ("postgresql://u:secret@a:1,b/name?sslmode=require", "postgresql://u:***@a:1,b/name"),
        ("postgresql://u:secret@[::1]:1,[::2]:2/name", "postgresql://u:***@[::1]:1,[::2]:2/name"),
        ("postgresql://a,b/name", "postgresql://a,b/name"),
        ("postgresql://u:secret@/name?host=a:1&host=b:2", "postgresql://u:***@a:1,b:2/name"),
        ("postgresql://u%40%2F:secret@a,b/x@/y", "postgresql://u%40%2F:***@a,b/x%40/y"),
        ("postgresql://u:secret@a:1/name?sslmode=require", "postgresql://u:***@a:1/name"),
    ],
)
def test_hosts_are_shown_and_passwords_are_not(url: str, expected: str) -> None:
    assert shown(parse(url)) == expected
    assert str(Database(url)) == expected


def test_the_driver_cannot_be_chosen() -> None:
    with pytest.raises(BadURL, match="knows sqlite:/// and postgresql://"):
        parse("oracle://a,b/name")


def test_an_error_names_all_hosts_without_the_password() -> None:
    database = Database("postgresql://u:secret@127.0.0.1:1,127.0.0.1:2/name")
    with pytest.raises(
        DatabaseUnavailable, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2/name cannot be used"
    ) as expected:
        database.ping()
    assert "secret" not in str(expected.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "a..b,c"])
def test_an_invalid_host_name_is_refused(host: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="has an invalid host name"):
        Database(f"postgresql://u:secret@{host}/name")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:secret@h:1/name?sslmode=require", "postgresql://u@h:1/name?sslmode=require"),
        ("postgresql://h/name?user=u&password=secret", "postgresql://h/name?user=u"),
        (
            "postgresql://u@h/name?options=-csearch_path%3Da",
            "postgresql://u@h/name?options=-csearch_path%3Da",
        ),
        ("postgresql://u@h/name?prepare_threshold=0&sslpassword=secret", "postgresql://u@h/name"),
        ("postgresql://u@%2Frun%2Fa:1/name", "postgresql://u@%2Frun%2Fa:1/name"),
    ],
)
def test_the_url_for_psql_has_all_options_and_no_password(url: str, expected: str) -> None:
    assert Database(url).url_for_programs() == expected


@pytest.mark.parametrize("url", ["postgresql://u@%2Frun%2Fa:1/n", "postgresql://u@%2Frun%2Fa,%2Frun%2Fb:2/n"])
def test_the_shown_url_of_a_socket_can_be_parsed_again(url: str) -> None:
    assert str(Database(str(Database(url)))) == str(Database(url))


@pytest.mark.parametrize("name", ["a b", "100%", "a%20b", "what?", "a#b", "it's", "a&b=c", "ä"])
def test_the_shown_url_of_a_file_can_be_parsed_again(name: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    database = Database(str(database).replace("x.db", name.replace("%", "%25").replace("?", "%3F")))
    assert database.file == tmp_path / name
    assert Database(str(database)).file == tmp_path / name


@pytest.mark.parametrize("url", ["sqlite://localhost/x.db", "sqlite://u@/x.db", "sqlite:///x.db?mode=ro"])
def test_parts_of_a_url_that_sqlite_ignores_are_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="must be sqlite:///FILE and nothing more"):
        Database(url)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_special_file_is_refused_and_its_permissions_are_not_changed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir(0o755)
    elif kind == "pipe":
        os.mkfifo(path)
        path.chmod(0o666)
    else:
        path = Path("/dev/null")
    before = path.stat().st_mode
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match="it is not a regular file"):
        database.migrate()
    monkeypatch.setenv("ISSUER_DATABASE_URL", f"sqlite:///{path}")
    found = [finding for looked in run_checks(system_clock) for finding in looked.findings]
    assert [finding.fix.line for finding in found if "not a regular file" in finding.wrong] == [
        "ISSUER_DATABASE_URL=sqlite:///issuer.db"
    ]
    assert not any("chmod" in finding.fix.line for finding in found if str(path) in finding.fix.line)
    assert path.stat().st_mode == before
