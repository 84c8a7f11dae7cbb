"""Every fix that is printed works: each kind is broken for, its line is run as it stands, and all is looked at again.

A kind of fix without a scenario here fails. Words in capitals are filled in first, as an operator would.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from support.defaults import MovableClock
from support.installation import PASSPHRASE, REACHABLE, SETTINGS, Site, installed, site
from support.postgresql import new_database

from issuer.checks import storage
from issuer.checks.finding import Severity
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.fixes import Kind, assignment, quoted
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.store import RingStore
from issuer.settings.env_file import read_env_file
from issuer.settings.settings import load_settings
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem_directory import NOTE
from issuer.wiring import build

__all__ = ["installed", "site"]  # fixtures

pytestmark = pytest.mark.usefixtures("production_rounds")

NOBODY = 65534


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An installation in a folder whose name means something to a shell, in a pattern and in a URL."""
    folder = tmp_path / 'it\'s a [folder] of $HOME? "100%"'
    folder.mkdir(mode=0o700)
    monkeypatch.chdir(folder)
    site = Site(folder, monkeypatch)
    site.set(**SETTINGS)
    return site


@pytest.mark.parametrize(
    "value", ["plain", "two words", "it's", "o'clock at (noon)", "a#b", "a;b", "$x", '"a"']
)
def test_a_printed_setting_is_the_same_to_a_shell_and_in_the_file(value: str) -> None:
    line = assignment("ISSUER_KEYS", value)
    told = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$ISSUER_KEYS"'], capture_output=True, check=True
    ).stdout
    assert told.decode() == value
    Path(".env").write_text(f"{line}\n")
    Path(".env").chmod(0o600)
    file = read_env_file()
    assert file is not None
    assert [each.value for each in file.assignments] == [value]


@dataclass
class Stage:
    """An installation that is well, for a scenario to break."""

    site: Site
    request: pytest.FixtureRequest
    fills: dict[str, str] = field(default_factory=dict)
    """What an operator fills in."""
    then: Callable[[], None] = lambda: None
    """What the fix cannot do in a test: undo a patch, set the clock that a stub was asked to."""

    @property
    def env(self) -> Path:
        return self.site.folder / ".env"

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        self.env.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.env.chmod(mode)

    def postgresql(self, options: str = "") -> str:
        return new_database(self.request.getfixturevalue("postgresql"), options)

    def back_up(self) -> None:
        shutil.copy(self.site.folder / "issuer.db", self.site.folder / "backup.db")
        self.fills["BACKUP"] = "backup.db"

    def passphrase_file(self, text: str | bytes = PASSPHRASE, name: str = "passphrase") -> Path:
        path = self.site.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        self.site.patch.delenv("ISSUER_KEYS_PASSPHRASE", raising=False)
        self.site.set(ISSUER_KEYS_PASSPHRASE_FILE=name)
        return path

    def key(self) -> Path:
        return min(self.site.keys.glob("*.pem"))

    def without_keys(self) -> None:
        shutil.rmtree(self.site.keys)
        for path in self.site.folder.glob("issuer.db*"):
            path.unlink()


Break = Callable[[Stage], None]


def as_an_ordinary_user(stage: Stage, closed: Path) -> None:
    """Let root be refused what it may not write by the mode of the file."""
    real = os.access

    def access(path: Path, mode: int) -> bool:
        return bool(closed.stat().st_mode & 0o200) if Path(path) == closed else real(path, mode)

    if os.geteuid() == 0:
        stage.site.patch.setattr(os, "access", access)


SCENARIOS: dict[Kind, Break] = {}
ELSEWHERE = {
    Kind.DATABASE_POOLER: "database/test_postgresql_sessions.py"
    "::test_time_limits_that_a_pooler_drops_are_missed_until_the_printed_line_sets_them"
}
"""Tests of fixes that need more than an installation."""


def scenario(kind: Kind) -> Callable[[Break], Break]:
    def known(function: Break) -> Break:
        assert kind not in SCENARIOS
        SCENARIOS[kind] = function
        return function

    return known


def setting(kind: Kind, **settings: str) -> None:
    SCENARIOS[kind] = lambda stage: stage.site.set(**settings)


@pytest.mark.parametrize("name", ["ISSUER_KEYS", "ISSUER_KEYS_PASSPHRASE_FILE", "ISSUER_DATABASE_URL"])
@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/proc/self/mem", "/"])
def test_no_fix_touches_what_belongs_to_the_system(site: Site, name: str, path: str) -> None:
    site.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    site.set(**{name: f"sqlite:///{path}" if name == "ISSUER_DATABASE_URL" else path})
    told = "\n".join(finding.fix.line for finding in site.found())
    assert not re.search(rf"(mv|chmod|chown|mkdir|install|>).* {path}( |$)", told, re.MULTILINE), told


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can do that")


def test_what_is_tested_elsewhere_is() -> None:
    for name in ELSEWHERE.values():
        file, _, function = name.partition("::")
        assert f"def {function}(" in (Path(__file__).parents[1] / file).read_text("utf-8")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ELSEWHERE])
def test_the_printed_fix_clears_what_it_is_printed_for(
    kind: Kind, site: Site, request: pytest.FixtureRequest
) -> None:
    assert kind in SCENARIOS, f"nothing here breaks an installation so that this is printed: {kind}"
    assert site.found() == []
    stage = Stage(site, request)
    SCENARIOS[kind](stage)
    before = site.found()
    fixes = list(dict.fromkeys(finding.fix for finding in before if finding.fix.kind is kind))
    assert fixes, before
    for fix in fixes:
        for line in fix.line.split("\n"):
            site.apply(filled(line, stage.fills), must_work=fix.clears)
    stage.then()
    after = site.found()
    if fixes[0].clears:
        assert kind not in {finding.fix.kind for finding in after}
    new = {finding.fix.kind for finding in after if finding.severity is Severity.PROBLEM}
    assert new <= {finding.fix.kind for finding in before}, after


def filled(line: str, fills: Mapping[str, str]) -> str:
    for name, value in fills.items():
        line = line.replace(name, value)
    return line


# Settings

setting(Kind.SETTING_VALUE, ISSUER_URL="http://127.0.0.1:8000/")
setting(Kind.POLICY, ISSUER_ACCESS_TOKEN_LIFETIME="90d", ISSUER_ROTATION_PERIOD="1d")
setting(Kind.METRICS_TOKEN_SHORT, ISSUER_METRICS_TOKEN="short")
setting(Kind.UNKNOWN_IN_ENVIRONMENT, issuer_audiance="x")
setting(Kind.URL_NOT_HTTPS, **{**REACHABLE, "ISSUER_URL": "http://issuer.example"})
setting(Kind.URL_WITH_PATH, **{**REACHABLE, "ISSUER_URL": "https://issuer.example/auth"})
setting(Kind.NO_TRUSTED_PROXY, **{**REACHABLE, "ISSUER_TRUSTED_PROXIES": ""})
setting(Kind.AUDIENCE_IS_ISSUER, ISSUER_AUDIENCE="http://127.0.0.1:8000")
setting(Kind.NO_ROTATION, ISSUER_ROTATION_PERIOD="0")
setting(Kind.OPEN_REGISTRATION, **{**REACHABLE, "ISSUER_REGISTRATION": "open"})
setting(Kind.TWICE_IN_ENVIRONMENT, ISSUER_AUDIENCE="https://a.example", issuer_audience="https://b.example")


@scenario(Kind.METRICS_TOKEN_MISSING)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example", 0o644)  # and no end of the line
    stage.site.set(**{name: value for name, value in REACHABLE.items() if name != "ISSUER_METRICS_TOKEN"})


@scenario(Kind.CA_FILE)
def _(stage: Stage) -> None:
    stage.site.set(ISSUER_CA_FILE="nowhere")
    made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 1 -keyout key.pem -out ca.pem"
    subprocess.run(made.split(), cwd=stage.site.folder, check=True, capture_output=True)
    stage.fills["=FILE"] = "=ca.pem"


@scenario(Kind.MISSPELT_IN_FILE)
def _(stage: Stage) -> None:
    stage.write("# a comment\n\nexport issuer_ulr = 'http://127.0.0.1:8000'\n")


@scenario(Kind.UNKNOWN_IN_FILE)
def _(stage: Stage) -> None:
    stage.write('ISSUER_NONSENSE="1\n2"\nISSUER_AUDIENCE=https://a.example\n')


@scenario(Kind.OVERRIDDEN_LINE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\nexport issuer_audience=https://b.example\n")


# The file .env


@scenario(Kind.ENV_OWNER)
def _(stage: Stage) -> None:
    as_root()
    stage.write("ISSUER_AUDIENCE=https://a.example\n")
    os.chown(stage.env, NOBODY, NOBODY)


@scenario(Kind.ENV_WRITABLE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n", 0o664)


@scenario(Kind.ENV_READABLE)
def _(stage: Stage) -> None:
    stage.write(f"ISSUER_KEYS_PASSPHRASE='{PASSPHRASE}'\n", 0o640)


@scenario(Kind.ENV_NOT_A_FILE)
def _(stage: Stage) -> None:
    stage.env.mkdir()


@scenario(Kind.ENV_UNREADABLE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n", 0o200)
    if os.geteuid() == 0:  # who may read everything
        real = Path.read_bytes

        def refused(path: Path) -> bytes:
            if path.name == ".env" and not path.stat().st_mode & 0o400:
                raise PermissionError(13, "Permission denied")
            return real(path)

        stage.site.patch.setattr(Path, "read_bytes", refused)


@scenario(Kind.ENV_ENCODING)
def _(stage: Stage) -> None:
    stage.write(
        "ISSUER_AUDIENCE=https://a.example # f\N{LATIN SMALL LETTER U WITH DIAERESIS}r\n".encode("utf-16")
    )


@scenario(Kind.ENV_BYTE_ORDER_MARK)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n".encode("utf-8-sig"))


@scenario(Kind.ENV_LINE)
def _(stage: Stage) -> None:
    stage.write("\n\nISSUER_AUDIENCE: https://a.example\nOTHER='not closed\n")


# The passphrase


@scenario(Kind.PASSPHRASE_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.write("ISSUER_AUDIENCE=https://a.example", 0o644)
    stage.site.set(**REACHABLE)
    stage.site.patch.delenv("ISSUER_KEYS_PASSPHRASE")


@scenario(Kind.PASSPHRASE_LOST)
def _(stage: Stage) -> None:
    stage.passphrase_file().rename(stage.site.folder / "backup")
    stage.fills["BACKUP"] = "backup"


@scenario(Kind.PASSPHRASE_TWICE)
def _(stage: Stage) -> None:
    stage.passphrase_file("another that opens nothing")
    stage.site.set(ISSUER_KEYS_PASSPHRASE=PASSPHRASE)


@scenario(Kind.PASSPHRASE_UNUSABLE)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.passphrase_file(b"\xff" * 32)


@scenario(Kind.PASSPHRASE_FILE_UNREADABLE)
def _(stage: Stage) -> None:
    path = stage.passphrase_file()
    path.chmod(0o200)
    if os.geteuid() == 0:
        real = Path.open

        def refused(self: Path, *args: Any, **more: Any) -> Any:
            if self.name == path.name and not self.stat().st_mode & 0o400:
                raise PermissionError(13, "Permission denied")
            return real(self, *args, **more)

        stage.site.patch.setattr(Path, "open", refused)


@scenario(Kind.PASSPHRASE_FILE_EXPOSED)
def _(stage: Stage) -> None:
    stage.passphrase_file(name="my pass'phrase").chmod(0o644)


@scenario(Kind.PASSPHRASE_FILE_BYTE_ORDER_MARK)
def _(stage: Stage) -> None:
    stage.passphrase_file(f"{PASSPHRASE}\r\n".encode("utf-8-sig"), "-begins with a dash")


@scenario(Kind.PASSPHRASE_SHORT)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    stage.write("# ours\nISSUER_KEYS_PASSPHRASE=short\n")
    stage.site.make()


@scenario(Kind.PASSPHRASE_WRONG)
def _(stage: Stage) -> None:
    stage.passphrase_file("another that opens nothing")
    (stage.site.folder / "right").write_text(PASSPHRASE)
    (stage.site.folder / "right").chmod(0o600)
    stage.fills["_FILE=FILE"] = "_FILE=right"


def encrypted_otherwise(stage: Stage, passphrase: str | None) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption  # noqa: PLC0415

    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    for path in stage.site.keys.glob("*.pem"):
        key: Any = load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


@scenario(Kind.KEYS_NOT_ENCRYPTED)
def _(stage: Stage) -> None:
    encrypted_otherwise(stage, None)


@scenario(Kind.KEYS_ENCRYPTED_WEAKLY)
def _(stage: Stage) -> None:
    encrypted_otherwise(stage, PASSPHRASE)


@scenario(Kind.OTHER_USER)
def _(stage: Stage) -> None:
    as_root()
    for path in (stage.site.folder, *stage.site.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    stub(stage, "runuser", 'test "$1 $2 $3 $4 $5" = "-u nobody -- issuer check"')


# The directory of keys


@scenario(Kind.KEYS_LINK)
def _(stage: Stage) -> None:
    stage.site.keys.rename(stage.site.folder / "else where")
    stage.site.keys.symlink_to(stage.site.folder / "else where")


@scenario(Kind.KEYS_NO_DIRECTORY)
def _(stage: Stage) -> None:
    stage.site.keys.rename(stage.site.folder / "safe")
    stage.site.keys.write_text("")
    stage.then = lambda: shutil.move(stage.site.folder / "safe", stage.site.keys)


@scenario(Kind.KEYS_CLOSED)
def _(stage: Stage) -> None:
    stage.site.keys.chmod(0o2500)
    as_an_ordinary_user(stage, Path("keys"))


@scenario(Kind.KEYS_OWNER)
def _(stage: Stage) -> None:
    as_root()
    os.chown(stage.key(), NOBODY, NOBODY)


@scenario(Kind.KEYS_EXPOSED)
def _(stage: Stage) -> None:
    stage.site.keys.chmod(0o3770)
    stage.key().chmod(0o644)
    stage.then = lambda: [stage.site.apply(finding.fix.line) for finding in stage.site.found()]  # type: ignore[func-returns-value]


@scenario(Kind.KEYS_READ_ONLY)
def _(stage: Stage) -> None:
    as_root()
    keys = str(stage.site.keys)
    copy = shutil.copytree(keys, stage.site.folder / "copy")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=700", "none", keys], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nothing be mounted")
    stage.request.addfinalizer(lambda: subprocess.run(["umount", keys], check=True))
    for path in copy.iterdir():
        shutil.copy2(path, keys)
    shutil.rmtree(copy)
    subprocess.run(["mount", "-o", "remount,ro", keys], check=True)


@scenario(Kind.KEY_NO_FILE)
def _(stage: Stage) -> None:
    path = stage.key()
    stage.then = lambda: shutil.move(path.with_name("saved"), path)
    path.rename(path.with_name("saved"))
    os.mkfifo(path, 0o600)


@scenario(Kind.KEY_LINK)
def _(stage: Stage) -> None:
    path = stage.key()
    path.rename(stage.site.folder / "a key.pem")
    path.symlink_to(stage.site.folder / "a key.pem")


@scenario(Kind.KEY_MISSING)
def _(stage: Stage) -> None:
    (stage.site.folder / "back up").mkdir()
    shutil.move(stage.key(), stage.site.folder / "back up")
    stage.fills["BACKUP"] = quoted("back up")


@scenario(Kind.KEY_SWAPPED)
def _(stage: Stage) -> None:
    shutil.copytree(stage.site.keys, stage.site.folder / "backup")
    one, other = sorted(stage.site.keys.glob("*.pem"))
    one.write_bytes(other.read_bytes())
    stage.fills["BACKUP"] = "backup"


@scenario(Kind.KEY_STRAY)
def _(stage: Stage) -> None:
    path = stage.site.keys / "-old $(key)\n'.pem"
    path.write_text("")
    path.chmod(0o600)


@scenario(Kind.KEY_STRAY_ELSEWHERE)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.set(ISSUER_KEYS="database")
    stage.site.make()
    stage.site.change("INSERT INTO private_keys SELECT 'stray', pem, 1 FROM private_keys LIMIT 1")


@scenario(Kind.NOTE_DAMAGED)
def _(stage: Stage) -> None:
    (stage.site.keys / NOTE).write_text("{}")


# PKCS#11


def token(stage: Stage) -> None:
    softhsm = pytest.importorskip("support.softhsm")
    fresh = contextmanager_of(stage, softhsm.fresh_token(stage.site.folder, stage.site.patch))
    assert fresh
    stage.site.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    stage.without_keys()
    stage.site.set(
        ISSUER_KEYS="pkcs11",
        ISSUER_PKCS11_MODULE=str(softhsm.MODULE),
        ISSUER_PKCS11_TOKEN=softhsm.LABEL,
        ISSUER_KEYS_PASSPHRASE=softhsm.PIN,
    )


def contextmanager_of(stage: Stage, manager: Any) -> Any:
    entered = manager.__enter__()
    stage.request.addfinalizer(lambda: manager.__exit__(None, None, None))
    return entered


@scenario(Kind.PKCS11_SETTINGS)
def _(stage: Stage) -> None:
    token(stage)
    for name in ("ISSUER_PKCS11_MODULE", "ISSUER_PKCS11_TOKEN"):
        stage.fills["/usr/lib/MODULE.so" if "MODULE" in name else "LABEL"] = quoted(os.environ[name])
        stage.site.patch.delenv(name)


@scenario(Kind.PKCS11_MODULE)
def _(stage: Stage) -> None:
    token(stage)
    stage.fills["/usr/lib/MODULE.so"] = os.environ["ISSUER_PKCS11_MODULE"]
    stage.site.set(ISSUER_PKCS11_MODULE="/nowhere/module.so")


def stub(stage: Stage, name: str, text: str) -> None:
    """Put a program that this machine lacks, or that would change it, before the others."""
    programs = stage.site.folder / "programs"
    programs.mkdir(mode=0o700, exist_ok=True)
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o700)
    stage.site.patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@scenario(Kind.PKCS11_TOKEN)
def _(stage: Stage) -> None:
    token(stage)
    stage.site.make()
    stage.site.set(ISSUER_PKCS11_TOKEN="another")
    stub(stage, "pkcs11-tool", 'test "$1" = --module && test "$3" = --list-token-slots')


@scenario(Kind.PKCS11_KEY)
def _(stage: Stage) -> None:
    token(stage)
    stage.site.make()
    softhsm = pytest.importorskip("support.softhsm")
    token_in_use = softhsm.Token(softhsm.MODULE, softhsm.LABEL, lambda: softhsm.PIN)
    signer = softhsm.Pkcs11Signer(token_in_use)
    signer.destroy(min(signer.kept()))
    stub(stage, "pkcs11-tool", 'test "$1" = --module && test "$4" = --list-objects')


@scenario(Kind.NOTE_MISSING)
def _(stage: Stage) -> None:
    token(stage)
    stage.site.patch.setattr("issuer.signing.pkcs11.signer.Pkcs11Signer.note", lambda *_: None)
    stage.site.make()


@scenario(Kind.PKCS11_PACKAGE)
def _(stage: Stage) -> None:
    token(stage)
    stage.site.make()
    names = ("pkcs11", "issuer.signing.pkcs11.session", "issuer.signing.pkcs11.signer")
    loaded = {name: sys.modules.pop(name) for name in names}
    stage.request.addfinalizer(lambda: sys.modules.update(loaded))
    stage.site.patch.setitem(sys.modules, "pkcs11", None)
    stage.site.patch.setenv("PIP_NO_INDEX", "1")  # it is there, in truth
    stage.then = lambda: sys.modules.update(loaded)


# The database

setting(Kind.DATABASE_URL, ISSUER_DATABASE_URL="sqlite:///keys")  # a folder


@scenario(Kind.DATABASE_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()


@scenario(Kind.DATABASE_OUTDATED)
def _(stage: Stage) -> None:
    stage.site.change("UPDATE issuer_schema_version SET version_num = '0000'")


@scenario(Kind.DATABASE_RESTORE)
def _(stage: Stage) -> None:
    stage.back_up()
    stage.site.change("UPDATE key_ring SET document = '{}'")


@scenario(Kind.DATABASE_UNREACHABLE)
def _(stage: Stage) -> None:
    stage.site.set(ISSUER_DATABASE_URL="postgresql://me:hidden@127.0.0.1:1/name")


@scenario(Kind.DATABASE_ENCODING)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.set(ISSUER_DATABASE_URL=stage.postgresql("ENCODING 'SQL_ASCII' TEMPLATE template0"))


@scenario(Kind.DATABASE_FOREIGN)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.change("CREATE TABLE wares (id INTEGER)")
    (stage.site.folder / "issuer.db").chmod(0o600)


@scenario(Kind.HEARTBEATS_DAMAGED)
def _(stage: Stage) -> None:
    beat("one/7")
    stage.site.change("UPDATE heartbeats SET signs_until = 'nonsense'")


@scenario(Kind.DATABASE_OWNER)
def _(stage: Stage) -> None:
    as_root()
    os.chown(stage.site.folder / "issuer.db", NOBODY, NOBODY)


@scenario(Kind.DATABASE_UNREADABLE)
def _(stage: Stage) -> None:
    file = stage.site.folder / "issuer.db"
    file.chmod(0o400)
    as_an_ordinary_user(stage, file)


@scenario(Kind.DATABASE_EXPOSED)
def _(stage: Stage) -> None:
    (stage.site.folder / "issuer.db").chmod(0o644)


@scenario(Kind.DATABASE_FOLDER_CLOSED)
def _(stage: Stage) -> None:
    as_an_ordinary_user(stage, stage.site.folder.absolute())
    stage.site.folder.chmod(0o500)


@scenario(Kind.DATABASE_FOLDER_EXPOSED)
def _(stage: Stage) -> None:
    stage.site.folder.chmod(0o777)


@scenario(Kind.DATABASE_MOVED)
def _(stage: Stage) -> None:
    url = stage.postgresql()
    (stage.site.folder / "to").write_text(url)
    (stage.site.folder / "to").chmod(0o600)
    stage.site.apply("issuer move --to-file to")
    stage.site.set(ISSUER_KEYS="database")


@scenario(Kind.DISK_FULL)
def _(stage: Stage) -> None:
    full = SimpleNamespace(total=1024**4, used=0, free=100 * 1024**2)
    stage.site.patch.setattr(storage.shutil, "disk_usage", lambda _: full)


def beat(name: str) -> None:
    settings = load_settings()
    database, now = Database(settings.database_url.get_secret_value()), system_clock()
    HeartbeatStore(database).beat(Heartbeat.of(name, name, 1, settings.policy(), now), now)
    database.close()


def moved_elsewhere(stage: Stage) -> None:
    """Let an operator stop the nodes, move everything to a new database, and set what `issuer move` says."""
    url = stage.postgresql()
    (stage.site.folder / "to").write_text(url)
    stage.fills["FILE"] = "to"
    for name in ("one/7", "two/7"):
        beat(name)

    def follow() -> None:
        stage.site.set(ISSUER_DATABASE_URL=url, ISSUER_KEYS="database")

    stage.then = follow


@scenario(Kind.SEVERAL_HOSTS_SQLITE)
def _(stage: Stage) -> None:
    moved_elsewhere(stage)
    stub_nodes_stopped(stage)


@scenario(Kind.SEVERAL_HOSTS_DIRECTORY)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.set(ISSUER_DATABASE_URL=stage.postgresql())
    stage.site.make()
    moved_elsewhere(stage)
    stub_nodes_stopped(stage)


def stub_nodes_stopped(stage: Stage) -> None:
    """The nodes of the scenario are heartbeats: they are gone once the operator begins to do something."""
    real = stage.site.apply

    def stopped_first(line: str, *, must_work: bool = True) -> None:
        database = Database(load_settings().database_url.get_secret_value())
        for beat_left in HeartbeatStore(database).all():
            HeartbeatStore(database).beat(beat_left.last(system_clock()), system_clock())
        database.close()
        real(line, must_work=must_work)

    stage.site.apply = stopped_first  # type: ignore[method-assign]


# The key ring


@scenario(Kind.RING_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()
    Database("sqlite:///issuer.db").migrate()


@scenario(Kind.RING_OLDER)
def _(stage: Stage) -> None:
    stage.back_up()
    issuer = build(load_settings())
    kid = issuer.keys.rotation.ring().standbys(system_clock())[0].kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now))
    issuer.close()
    shutil.move(stage.site.folder / "backup.db", stage.site.folder / "issuer.db")
    stage.fills["TEXT"] = "'restored a backup'"


@scenario(Kind.AUDIT_SHORT)
def _(stage: Stage) -> None:
    stage.site.change("DROP TRIGGER audit_refuses_delete")
    stage.site.change("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)")
    stage.site.change("UPDATE audit_head SET (number, digest) = (SELECT max(number), digest FROM audit)")
    stage.fills["TEXT"] = "'who did that?'"


@scenario(Kind.RING_NEEDS_A_NODE)
def _(stage: Stage) -> None:
    stage.site.set(ISSUER_STANDBY_KEYS="2")


@scenario(Kind.TOO_MANY_KEYS)
def _(stage: Stage) -> None:
    """Keys were kept for 59 days at one a day, and shorter settings rotate faster from now on."""
    database = Database("sqlite:///issuer.db")
    store = RingStore(database)
    ring = store.load()
    assert ring
    first = min(ring.keys, key=lambda key: key.activates_at or system_clock())
    old = []
    for days in range(59, 0, -1):
        public = ALGORITHMS["ES256"].public_key(ALGORITHMS["ES256"].generate())
        turn = ring.changed_at - timedelta(days=days)
        lives = {"token_lifetime": timedelta(days=60), "activates_at": turn, "published_at": turn}
        old.append(replace(first, kid=public.kid, jwk=public.jwk, **lives))
    store.save(replace(ring, version=2, keys=(*old, *ring.keys)))
    database.close()
    stage.site.set(ISSUER_ROTATION_PERIOD="6h", ISSUER_PUBLISH_LEAD="6h", ISSUER_ACCESS_TOKEN_LIFETIME="3d")


@scenario(Kind.CLOCK)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.site.set(ISSUER_DATABASE_URL=stage.postgresql())
    stage.site.make()
    ahead = MovableClock()
    ahead.now = system_clock() + timedelta(minutes=5)
    stage.site.clock = ahead
    stub(stage, "timedatectl", 'test "$*" = "set-ntp true" && touch ntp')

    def corrected() -> None:
        assert (stage.site.folder / "ntp").exists()
        stage.site.clock = system_clock

    stage.then = corrected
