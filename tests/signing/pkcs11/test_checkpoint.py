"""The checkpoint in a PKCS#11 token: written by several nodes, read seldom, and not where the token cannot store it.

What it is used for is tested in `keyring.test_checkpoint` and `keyring.test_recovery`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass, PKCS11Error, Session
from structlog.testing import capture_logs
from support.defaults import MovableClock
from support.ring_nodes import FAST
from support.softhsm import LABEL, MODULE, PIN, fresh_token, kept_key, session, signer

from issuer.checks.finding import Finding, Severity
from issuer.checks.installation import run_checks
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.keyring.checkpoint import DamagedCheckpoint, RingCheckpoint
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.settings.loading import load_settings
from issuer.signing.pkcs11.checkpoint import APPLICATION, CACHE_SECONDS, CHECKPOINT, TokenCheckpoint
from issuer.signing.pkcs11.session import SESSION_GONE, Token
from issuer.signing.pkcs11.signer import Pkcs11Signer
from issuer.wiring import build

T = TypeVar("T")


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has an empty token of its own."""
    with fresh_token(tmp_path / "softhsm", monkeypatch) as conf:
        yield conf


@dataclass(frozen=True)
class OlderThan:
    number: int

    def __call__(self, text: bytes) -> bool:
        return int(text) < self.number


def write(number: int, ours: Pkcs11Signer | None = None) -> None:
    (ours or signer()).checkpoint_storage.write_checkpoint(b"%d" % number, OlderThan(number))


def stored() -> list[int]:
    """Return what a process that starts finds."""
    return sorted(int(text) for text in signer().checkpoint_storage.read_checkpoints())


def notes(opened: Session) -> list[pkcs11.Object]:
    return list(opened.get_objects({Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: CHECKPOINT}))


def put(opened: Session, text: bytes) -> None:
    """Write without reading first, like a node that read before others wrote."""
    opened.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.APPLICATION: APPLICATION,
            Attribute.LABEL: CHECKPOINT,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.VALUE: text,
        }
    )


# What is there


def test_the_checkpoint_is_one_data_object_that_is_readable_only_after_log_in() -> None:
    kept_key()
    for number in (1, 2, 1, 3):
        write(number)
    with session() as opened:
        (there,) = notes(opened)
        assert (there[Attribute.APPLICATION], there[Attribute.VALUE]) == (APPLICATION, b"3")
        assert there[Attribute.PRIVATE] is True
        assert there[Attribute.TOKEN] is True
    assert all("DATA" not in name for name in signer().orphans(()))
    pkcs11.lib(str(MODULE)).reinitialize()
    assert notes(pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open()) == []
    pkcs11.lib(str(MODULE)).reinitialize()


def test_a_token_without_keys_gets_no_checkpoint() -> None:
    write(1)
    assert stored() == []
    kept_key()
    write(1)
    assert stored() == [1]


def test_checkpoints_left_by_an_interrupted_write_are_read_and_replaced_by_the_next() -> None:
    kept_key()
    with session() as opened:
        for text in (b"1", b"3", b"3", b"2"):
            put(opened, text)
    assert stored() == [1, 2, 3, 3]
    write(2)
    assert stored() == [2, 3, 3]
    write(3)
    assert stored() == [3, 3]
    write(4)
    assert stored() == [4]


def write_and_read(numbers: range) -> list[int]:
    """Write these in another process; return the newest that it reads after each."""
    ours, found = Pkcs11Signer(Token(MODULE, LABEL, lambda: PIN)), []
    for number in numbers:
        write(number, ours)
        texts = TokenCheckpoint(ours._token).read_checkpoints()
        found.append(
            max(map(int, texts), default=0)
        )  # the newest of another process may be hidden for a moment
    return found


def test_nodes_that_write_at_the_same_time_leave_the_newest_and_there_is_always_one() -> None:
    kept_key()
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        looks = [pool.submit(write_and_read, range(start, 90, 3)) for start in (1, 2, 3)]
        looks += [pool.submit(write_and_read, range(1, 90, 2))]
        for each in looks:
            found = each.result()
            assert all(found)
    assert max(stored()) == 89
    write(90)
    assert stored() == [90]


# The newest of several, as the ring sees it


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    yield database
    database.close()


def rotation(database: Database, clock: MovableClock, ours: Pkcs11Signer | None = None) -> Rotation:
    return Rotation(RingStore(database), ours or signer(), FAST, clock, "tests")


def node_with(database: Database, clock: MovableClock, ours: Pkcs11Signer) -> Node:
    return Node(rotation(database, clock, ours), ours, HeartbeatStore(database), FAST, clock, "a")


def revoke_a_standby(database: Database, clock: MovableClock) -> None:
    clock.advance(seconds=1)
    rotation(database, clock).change(
        lambda ring, now: ring.revoked(ring.standbys(now)[0].kid, "stolen", FAST, now)
    )


def test_of_several_checkpoints_the_newest_counts_and_a_damaged_one_only_if_it_is_alone(
    database: Database, clock: MovableClock
) -> None:
    rotation(database, clock).reconcile()
    with session() as opened:
        (first,) = (each[Attribute.VALUE] for each in notes(opened))
        revoke_a_standby(database, clock)
        put(opened, first)
        put(opened, b"{")
        assert RingCheckpoint(signer().checkpoint_storage).ring() == RingStore(database).load()
        for each in notes(opened):
            if each[Attribute.VALUE] != b"{":
                each.destroy()
        with pytest.raises(DamagedCheckpoint, match="data object jwks-issuer ring"):
            RingCheckpoint(signer().checkpoint_storage).ring()
    ring = RingStore(database).load()
    assert ring
    RingCheckpoint(signer().checkpoint_storage).write(ring)
    assert RingCheckpoint(signer().checkpoint_storage).ring() == ring


# Seldom


class CountedToken(Token):
    """Counts what it is asked, and lets a session refuse what a test says."""

    def __init__(self) -> None:
        super().__init__(MODULE, LABEL, lambda: PIN, ())
        self.asked = 0
        self.made = 0
        self.refuses: dict[str, type[PKCS11Error]] = {}

    def perform(self, work: Callable[[Session], T]) -> T:
        self.asked += 1
        return super().perform(lambda session: work(RefusingSession(session, self)))  # type: ignore[arg-type]


class RefusingSession:
    """A session of the package, but for what the token refuses."""

    def __init__(self, session: Session, token: CountedToken) -> None:
        self._session = session
        self._token = token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def create_object(self, template: dict[Attribute, Any]) -> pkcs11.Object:
        self._token.made += 1
        self._refuse("create")
        return self._session.create_object(template)

    def get_objects(self, template: dict[Attribute, Any]) -> Iterator[pkcs11.Object]:
        if template[Attribute.CLASS] is ObjectClass.DATA:
            self._refuse("search")
        return self._session.get_objects(template)

    def _refuse(self, what: str) -> None:
        if error := self._token.refuses.get(what):
            raise error


def test_a_checkpoint_is_searched_for_every_few_seconds_at_most() -> None:
    kept_key()
    seconds, token = [1000.0], CountedToken()
    ours = TokenCheckpoint(token, lambda: seconds[0])
    assert [*ours.read_checkpoints(), *ours.read_checkpoints()] == []
    asked = token.asked
    write(1)
    seconds[0] += CACHE_SECONDS - 1
    assert (ours.read_checkpoints(), token.asked) == ([], asked)
    seconds[0] += 1
    assert (ours.read_checkpoints(), ours.read_checkpoints(), token.asked) == ([b"1"], [b"1"], asked + 1)
    ours.write_checkpoint(b"2", OlderThan(2))
    assert (ours.read_checkpoints(), token.asked) == ([b"2"], asked + 2)


def test_a_node_does_not_read_the_token_again_while_the_ring_is_unchanged(
    database: Database, clock: MovableClock
) -> None:
    ours = Pkcs11Signer(CountedToken())
    ours.checkpoint_storage = TokenCheckpoint(token := CountedToken(), lambda: 1000.0)
    node = node_with(database, clock, ours)
    node.refresh()
    asked = token.asked
    for _ in range(5):
        clock.advance(seconds=1)
        node.refresh()
    assert token.asked == asked
    revoke_a_standby(database, clock)
    for _ in range(5):
        clock.advance(seconds=1)
        node.refresh()
    assert token.asked == asked + 1


# Tokens that cannot store a checkpoint


ERRORS: set[type[PKCS11Error]] = {PKCS11Error, *PKCS11Error.__subclasses__()}
REFUSALS = sorted(ERRORS.difference(SESSION_GONE), key=lambda error: error.__name__)


@pytest.mark.parametrize("error", REFUSALS)
def test_any_error_of_a_token_for_a_data_object_is_final_for_that_checkpoint(
    error: type[PKCS11Error],
) -> None:
    kept_key()
    token = CountedToken()
    token.refuses["create"] = error
    ours = TokenCheckpoint(token)
    with capture_logs() as lines:
        for _ in range(3):
            ours.write_checkpoint(b"1", OlderThan(1))
    assert (token.made, len(lines), stored()) == (1, 1, [])


@pytest.mark.parametrize("error", [pkcs11.AttributeTypeInvalid, pkcs11.TemplateInconsistent, PKCS11Error])
def test_a_token_that_cannot_store_a_data_object_is_logged_once_and_stops_nothing(
    database: Database, clock: MovableClock, error: type[PKCS11Error]
) -> None:
    token = CountedToken()
    token.refuses["create"] = error
    node = node_with(database, clock, Pkcs11Signer(token))
    with capture_logs() as lines:
        for _ in range(3):
            node.refresh()
            clock.advance(seconds=1)
        assert token.made == 1
        node._rotation.change(lambda ring, now: ring.revoked(ring.standbys(now)[0].kid, "stolen", FAST, now))
        node.refresh()
        assert token.made == 2
    assert node.warnings() == []
    (line,) = (line for line in lines if line["log_level"] == "warning")
    assert f"cannot store a data object ({error.__name__})" in line["reason"]
    assert checkpoint_ring() is None


def checkpoint_ring() -> object:
    return RingCheckpoint(signer().checkpoint_storage).ring()


def test_a_token_without_data_objects_stops_nothing(database: Database, clock: MovableClock) -> None:
    token = CountedToken()
    token.refuses["search"] = pkcs11.AttributeValueInvalid
    node = node_with(database, clock, Pkcs11Signer(token))
    with capture_logs() as lines:
        for _ in range(3):
            node.refresh()
    assert (node.warnings(), token.made) == ([], 0)
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("error", SESSION_GONE)
def test_a_token_that_is_away_during_a_checkpoint_is_reported_and_tried_again(
    database: Database, clock: MovableClock, error: type[PKCS11Error]
) -> None:
    token = CountedToken()
    token.refuses["create"] = error
    node = node_with(database, clock, Pkcs11Signer(token))
    node.refresh()
    assert "checkpoint of the key ring could not be written" in node.warnings()[0]
    token.refuses.clear()
    clock.advance(seconds=1)
    node.refresh()
    assert (node.warnings(), checkpoint_ring()) == ([], RingStore(database).load())


# What `issuer check` says


def found() -> list[Finding]:
    return [finding for looked in run_checks(system_clock) for finding in looked.findings]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    (tmp_path / "pin").touch(0o600)
    (tmp_path / "pin").write_text(PIN)
    for name, value in {
        "ISSUER_ALGORITHM": "ES256",
        "ISSUER_KEYS": "pkcs11",
        "ISSUER_PKCS11_MODULE": str(MODULE),
        "ISSUER_PKCS11_TOKEN": LABEL,
        "ISSUER_KEYS_PASSPHRASE_FILE": str(tmp_path / "pin"),
    }.items():
        monkeypatch.setenv(name, value)
    start()
    return tmp_path


def start() -> None:
    issuer = build(load_settings())
    issuer.keys.node.refresh()
    issuer.close()


def test_a_token_without_a_checkpoint_is_a_finding(site: Path) -> None:
    assert found() == []
    with session() as opened:
        for each in notes(opened):
            each.destroy()
    (finding,) = found()
    assert finding.severity is Severity.WARNING
    assert f"the PKCS#11 token {LABEL} has no checkpoint of the key ring" in finding.wrong
    assert finding.fix.line == "issuer audit verify"
    start()
    assert found() == []


def test_a_damaged_checkpoint_is_a_finding_with_the_command_that_removes_it(site: Path) -> None:
    with session() as opened:
        (there,) = notes(opened)
        there.destroy()
        put(opened, b"{")
    (finding,) = found()
    assert finding.severity is Severity.PROBLEM
    assert finding.fix.line == (
        f"pkcs11-tool --module {MODULE} --token-label '{LABEL}' --login --delete-object --type data"
        f" --label '{CHECKPOINT}'"
    )
    with pytest.raises(DamagedCheckpoint):
        start()
