"""Scenarios: the passphrase of the private keys."""

import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from issuer.fixes import Kind
from issuer.signing import encryption
from support import cheap
from support.components import require_root
from support.fix_scenarios.stage import (
    NOBODY,
    Stage,
    scenario,
    stub,
)
from support.installation import PASSPHRASE, REACHABLE


@scenario(Kind.PASSPHRASE_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.write("ISSUER_AUDIENCE=https://a.example", 0o644)
    stage.deployment.set(**REACHABLE)
    stage.deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")


@scenario(Kind.PASSPHRASE_LOST)
def _(stage: Stage) -> None:
    stage.passphrase_file().rename(stage.deployment.folder / "backup")
    stage.fills["BACKUP"] = "backup"


@scenario(Kind.PASSPHRASE_TWICE)
def _(stage: Stage) -> None:
    stage.passphrase_file("another that opens nothing")
    stage.deployment.set(ISSUER_KEYS_PASSPHRASE=PASSPHRASE)


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

        stage.deployment.patch.setattr(Path, "open", refused)


@scenario(Kind.PASSPHRASE_FILE_EXPOSED)
def _(stage: Stage) -> None:
    stage.passphrase_file(name="my pass'phrase").chmod(0o644)


@scenario(Kind.PASSPHRASE_FILE_BYTE_ORDER_MARK)
def _(stage: Stage) -> None:
    stage.passphrase_file(f"{PASSPHRASE}\r\n".encode("utf-8-sig"), "-begins with a dash")


@scenario(Kind.PASSPHRASE_SHORT)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    stage.write("# ours\nISSUER_KEYS_PASSPHRASE=short\n")
    stage.deployment.make()


@scenario(Kind.PASSPHRASE_WRONG)
def _(stage: Stage) -> None:
    stage.passphrase_file("another that opens nothing")
    (stage.deployment.folder / "right").write_text(PASSPHRASE)
    (stage.deployment.folder / "right").chmod(0o600)
    stage.fills["_FILE=FILE"] = "_FILE=right"


def encrypted_otherwise(stage: Stage, passphrase: str | None) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption  # noqa: PLC0415

    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    for path in stage.deployment.keys.glob("*.pem"):
        key: Any = load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


@scenario(Kind.KEYS_NOT_ENCRYPTED)
def _(stage: Stage) -> None:
    encrypted_otherwise(stage, None)


@scenario(Kind.KEYS_ENCRYPTED_WEAKLY)
def _(stage: Stage) -> None:
    encrypted_otherwise(stage, PASSPHRASE)
    stage.deployment.patch.setattr(encryption, "ROUNDS", cheap.ROUNDS)


@scenario(Kind.OTHER_USER)
def _(stage: Stage) -> None:
    require_root()
    for path in (stage.deployment.folder, *stage.deployment.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    stub(stage, "runuser", 'test "$1 $2 $3 $4 $5" = "-u nobody -- issuer check"')
