"""Rotations, nodes and operators on one database and one directory of private keys."""

from dataclasses import dataclass, replace
from pathlib import Path

from issuer.database.database import Database
from issuer.keyring.heartbeat import Acknowledgement
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from support.defaults import MovableClock
from support.example_rings import POLICY

FAST = replace(POLICY, algorithm="ES256")


def signer(keys: Path) -> PemSigner:
    return PemSigner(PemDirectory(keys), lambda: "passphrase")


def rotation(database: Database, keys: Path, clock: MovableClock) -> Rotation:
    return Rotation(RingStore(database), signer(keys), FAST, clock, "tests")


def node_on(database: Database, keys: Path, clock: MovableClock) -> tuple[PemSigner, Node]:
    holder = signer(keys)
    performs = Rotation(RingStore(database), holder, FAST, clock, "node a")
    return holder, Node(performs, holder, HeartbeatStore(database), FAST, clock, "a")


def files(keys: Path) -> set[str]:
    return {path.name for path in keys.iterdir() if path.name != CHECKPOINT}


def kids(ring: KeyRing) -> set[str]:
    return {f"{key.kid}.pem" for key in ring.keys if key.revoked_at is None}


@dataclass
class Site:
    """One database and directory of keys, and the processes that use them."""

    database: Database
    keys: Path
    clock: MovableClock

    def node(self, name: str, policy: Policy = FAST) -> Node:
        signer = PemSigner(PemDirectory(self.keys), lambda: "passphrase")
        rotation = Rotation(RingStore(self.database), signer, policy, self.clock, name)
        return Node(rotation, signer, self.heartbeats, policy, self.clock, name)

    def rotation(self) -> Rotation:
        signer = PemSigner(PemDirectory(self.keys), lambda: "passphrase")
        return Rotation(RingStore(self.database), signer, FAST, self.clock, "operator")

    @property
    def heartbeats(self) -> HeartbeatStore:
        return HeartbeatStore(self.database)

    def acknowledged(self, version: int) -> Acknowledgement:
        return Acknowledgement.of(self.heartbeats.all(), version, FAST, self.clock())

    def beats(self) -> dict[str, int]:
        return {beat.name: beat.version for beat in self.heartbeats.all()}
