"""Scenarios: keys in a PKCS#11 token."""

import os
import sys
from typing import Any

from issuer.fixes import Kind, quoted
from issuer.signing.pkcs11.session import Token
from issuer.signing.pkcs11.signer import Pkcs11Signer
from support import softhsm
from support.fix_scenarios.stage import (
    Stage,
    scenario,
    stub,
)


def token(stage: Stage) -> None:
    fresh = contextmanager_of(stage, softhsm.fresh_token(stage.deployment.folder, stage.deployment.patch))
    assert fresh
    stage.deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    stage.without_keys()
    stage.deployment.set(
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
        stage.deployment.patch.delenv(name)


@scenario(Kind.PKCS11_MODULE)
def _(stage: Stage) -> None:
    token(stage)
    stage.fills["/usr/lib/MODULE.so"] = os.environ["ISSUER_PKCS11_MODULE"]
    stage.deployment.set(ISSUER_PKCS11_MODULE="/nowhere/module.so")


@scenario(Kind.PKCS11_TOKEN)
def _(stage: Stage) -> None:
    token(stage)
    stage.deployment.make()
    stage.deployment.set(ISSUER_PKCS11_TOKEN="another")
    stub(stage, "pkcs11-tool", 'test "$1" = --module && test "$3" = --list-token-slots')


@scenario(Kind.PKCS11_KEY)
def _(stage: Stage) -> None:
    token(stage)
    stage.deployment.make()
    token_in_use = Token(softhsm.MODULE, softhsm.LABEL, lambda: softhsm.PIN)
    signer = Pkcs11Signer(token_in_use)
    signer.destroy(min(signer.kept()))
    stub(stage, "pkcs11-tool", 'test "$1" = --module && test "$4" = --list-objects')


@scenario(Kind.CHECKPOINT_MISSING)
def _(stage: Stage) -> None:
    token(stage)
    checkpoint = "issuer.signing.pkcs11.checkpoint.TokenCheckpoint.write_checkpoint"
    stage.deployment.patch.setattr(checkpoint, lambda *_: None)
    stage.deployment.make()


@scenario(Kind.PKCS11_PACKAGE)
def _(stage: Stage) -> None:
    token(stage)
    stage.deployment.make()
    names = ("pkcs11", "issuer.signing.pkcs11.session", "issuer.signing.pkcs11.signer")
    loaded = {name: sys.modules.pop(name) for name in names}
    stage.request.addfinalizer(lambda: sys.modules.update(loaded))
    stage.deployment.patch.setitem(sys.modules, "pkcs11", None)
    stage.deployment.patch.setenv("PIP_NO_INDEX", "1")  # it is there, in truth
    stage.then = lambda: sys.modules.update(loaded)
