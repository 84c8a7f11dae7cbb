"""A real PKCS#11 token, SoftHSM2 in a temporary folder, and other processes that use it at the same time.

What is promised of keys in a token is tested in `test_signer`, `pkcs11.test_signer` and `test_session`.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pkcs11
import pytest

from issuer.signing.pkcs11.session import Token
from issuer.signing.pkcs11.signer import Pkcs11Signer
from issuer.signing.public_key import PublicKey
from support.components import require

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
LABEL = "issuer tests"
PIN = "2468013579"
CONF = "SOFTHSM2_CONF"


def configured(folder: Path, *options: str) -> Path:
    """Return a configuration of SoftHSM2 that keeps its tokens in `folder`."""
    tokens = folder / "tokens"
    tokens.mkdir(parents=True, exist_ok=True)
    conf = folder / "softhsm2.conf"
    conf.write_text("\n".join([f"directories.tokendir = {tokens}", "log.level = ERROR", *options, ""]))
    return conf


def initialise(conf: Path, label: str = LABEL) -> None:
    """Create an empty token with a PIN."""
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", PIN, "--pin", PIN]
    subprocess.run(command, env={**os.environ, CONF: str(conf)}, check=True, capture_output=True)


@contextmanager
def fresh_token(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Iterator[Path]:
    """Use a new, empty token in this process; yield its configuration."""
    require("SoftHSM")
    conf = configured(folder, *options)
    initialise(conf)
    monkeypatch.setenv(CONF, str(conf))
    yield conf
    pkcs11.lib(str(MODULE)).finalize()  # the next test has another configuration, read at C_Initialize


def signer(**changes: Any) -> Pkcs11Signer:
    """Return a signer on the token; changes are arguments of Token."""
    arguments: dict[str, Any] = {
        "module": MODULE,
        "label": LABEL,
        "pin": lambda: PIN,
        "open_pauses": (),
        **changes,
    }
    return Pkcs11Signer(Token(**arguments))


def kept_key(alg: str = "ES256") -> PublicKey:
    """Make a key, and store it."""
    ours = signer()
    public = ours.generate(alg)
    ours.keep(public.kid)
    return public


def loaded(public: PublicKey) -> Pkcs11Signer:
    """Return a signer that has loaded the key."""
    ours = signer()
    ours.load(public.kid, public.alg)
    return ours


@contextmanager
def session() -> Iterator[pkcs11.Session]:
    """Yield a second session on the token, as an administration tool has; it may share the issuer's log-in."""
    token = pkcs11.lib(str(MODULE)).get_token(token_label=LABEL)
    try:
        opened = token.open(rw=True, user_pin=PIN)
    except pkcs11.UserAlreadyLoggedIn:
        opened = token.open(rw=True)
    yield opened


def objects(opened: pkcs11.Session, kind: pkcs11.ObjectClass, kid: str) -> list[pkcs11.Object]:
    """Return all objects with that class and CKA_ID."""
    return list(opened.get_objects({pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.ID: kid.encode()}))


_there: list[Pkcs11Signer] = []


def in_other_process(method: str, *arguments: Any) -> Any:
    """Call a method of the only signer in the current process."""
    if not _there:
        _there.append(Pkcs11Signer(Token(MODULE, LABEL, lambda: PIN)))
    return getattr(_there[0], method)(*arguments)


@contextmanager
def other_process() -> Iterator[Callable[..., Any]]:
    """Yield a function that calls signer methods in another, fresh process, which keeps its session open."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield lambda *call: process.submit(in_other_process, *call).result()
