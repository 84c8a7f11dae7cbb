"""A SQLite database that can be backed up and restored, with private keys beside it."""

from collections.abc import Callable
from pathlib import Path

from issuer.database.database import Database
from issuer.keyring.checkpoint import RingCheckpoint
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.recovery import Recovery
from issuer.keyring.ring import KeyRing, Phase
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pkcs11.signer import Pkcs11Signer
from support.defaults import MovableClock
from support.ring_nodes import FAST

DUE = {"days": 1}


class Place:
    """A SQLite database with its backups, and private keys beside it."""

    def __init__(
        self, folder: Path, clock: MovableClock, signer: Callable[[], PemSigner | Pkcs11Signer]
    ) -> None:
        self.path, self.keys, self.clock = folder / "issuer.db", folder / "keys", clock
        self.signer = signer
        self.database = self._opened()
        self.rotation.reconcile()

    def _opened(self) -> Database:
        database = Database(f"sqlite:///{self.path}")
        database.migrate()
        return database

    @property
    def rotation(self) -> Rotation:
        return Rotation(RingStore(self.database), self.signer(), FAST, self.clock, "tests")

    @property
    def recovery(self) -> Recovery:
        store = RingStore(self.database)
        return Recovery(self.rotation, store, self.signer(), FAST, self.clock, "operator")

    def back_up(self) -> bytes:
        self.database.close()  # the log of SQLite is brought into the file
        return self.path.read_bytes()

    def restore(self, backup: bytes) -> None:
        self.database.close()
        for path in self.path.parent.glob("issuer.db*"):
            path.unlink()
        self.path.write_bytes(backup)
        self.database = self._opened()

    def rotate(self) -> KeyRing:
        self.clock.advance(**DUE)
        return self.rotation.change(lambda ring, now: ring.promoted(FAST, now))

    def revoke(self, kid: str) -> KeyRing:
        self.clock.advance(seconds=1)
        return self.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))

    def phases(self) -> dict[str, Phase]:
        ring = RingStore(self.database).load()
        assert ring
        return {key.kid: ring.phase(key, self.clock()) for key in ring.keys}

    def node(self) -> tuple[PemSigner | Pkcs11Signer, Node]:
        holder = self.signer()
        performs = Rotation(RingStore(self.database), holder, FAST, self.clock, "node a")
        return holder, Node(performs, holder, HeartbeatStore(self.database), FAST, self.clock, "a")

    def start(self) -> KeyRing:
        return self.node()[1].refresh().ring

    def checkpoint(self) -> KeyRing:
        ring = RingCheckpoint(self.signer().checkpoint_storage).ring()
        assert ring
        return ring
