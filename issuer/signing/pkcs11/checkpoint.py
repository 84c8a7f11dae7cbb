"""The checkpoint in a PKCS#11 token, as one data object; its content is defined in `keyring.checkpoint`.

Nothing locks a token, and several nodes may write at the same time. Each creates its object before it destroys the
older ones, so that there is always one, and for a moment perhaps several.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from pkcs11 import Attribute, FunctionFailed, Object, ObjectClass, PKCS11Error, Session

from issuer.signing.pkcs11.session import HANDLE_GONE, SESSION_GONE, Token, is_lost, search

CHECKPOINT = "jwks-issuer ring"
"""CKA_LABEL of the checkpoint."""
APPLICATION = "jwks-issuer"

CACHE_SECONDS = 10
"""How long a checkpoint that was read is used: a token is slow, and nodes load the ring every second."""

READS = 5
"""How often reading is repeated if other nodes destroy an object meanwhile."""

PAUSES_SECONDS = (0.05, 0.2)
"""The pauses before the search is repeated if nothing was found: another node may be replacing the object."""

_OURS = {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: APPLICATION, Attribute.LABEL: CHECKPOINT}

_DESTROYED = (*HANDLE_GONE, FunctionFailed)
"""The errors of a token for an object that another process destroys at the same time."""

log = structlog.get_logger("issuer.keys")


class _NotSupported(Exception):
    """The token cannot store a checkpoint; the cause is its error."""


class TokenCheckpoint:
    """The checkpoint in a token, private: readable only after log-in.

    If the token cannot store one, this is logged once, and tried again with the next checkpoint. Every method raises
    KeyUnavailable for a token that cannot be used at all.
    """

    def __init__(self, token: Token, seconds: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._seconds = seconds
        self._latest: Sequence[bytes] = ()
        self._read_at: float | None = None
        self._not_stored: bytes | None = None
        self._is_logged = False

    def read_checkpoints(self) -> Sequence[bytes]:
        """Return the checkpoint, at most CACHE_SECONDS old; several texts if nodes wrote at the same time."""
        now = self._seconds()
        if self._read_at is None or now - self._read_at >= CACHE_SECONDS:
            try:
                self._latest = self._search(is_none_likely=self._read_at is not None and not self._latest)
            except _NotSupported as refusal:
                self._log_once(refusal)
            self._read_at = now
        return self._latest

    def _search(self, *, is_none_likely: bool) -> Sequence[bytes]:
        for pause in () if is_none_likely else PAUSES_SECONDS:
            if texts := self._token.perform(_texts):
                return texts
            time.sleep(pause)  # other threads can use the token
        return self._token.perform(_texts)

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Store `text` if it `replaces` every checkpoint in the token, and the token holds private keys."""
        if text == self._not_stored:
            return
        now = self._seconds()
        try:
            self._latest = self._token.perform(lambda session: _written(session, text, replaces))
        except _NotSupported as refusal:
            self._not_stored = text
            self._log_once(refusal)
        self._read_at = now

    def _log_once(self, refusal: _NotSupported) -> None:
        if not self._is_logged:
            log.warning(
                "no checkpoint of the key ring with its private keys",
                reason=f"{self._token} cannot store a data object ({type(refusal.__cause__).__name__}), so that a"
                " restored older database is not detected; after each change, store what `issuer audit verify` prints"
                " elsewhere",
            )
        self._is_logged = True


def _written(session: Session, text: bytes, replaces: Callable[[bytes], bool]) -> Sequence[bytes]:
    existing = [(each, stored, replaces(stored)) for each, stored in _objects(session)]
    newest = [stored for _, stored, is_old in existing if not is_old]
    if not newest:
        if not search(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY}):
            return [stored for _, stored, _ in existing]  # the token was named by mistake, or is new
        _create(session, text)
        newest = [text]
    for each, _, is_old in existing:
        if is_old:
            with suppress(*_DESTROYED):  # another node has destroyed it; otherwise the next write does it
                each.destroy()
    return newest


def _create(session: Session, text: bytes) -> None:
    template = {**_OURS, Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.VALUE: text}
    try:
        session.create_object(template)
    except SESSION_GONE:
        raise
    except PKCS11Error as error:  # of whatever kind: the session works, as it has just answered a search
        raise _NotSupported from error


def _texts(session: Session) -> Sequence[bytes]:
    return [text for _, text in _objects(session)]


def _objects(session: Session) -> Sequence[tuple[Object, bytes]]:
    for reads_left in reversed(range(READS)):
        try:
            return [(each, each[Attribute.VALUE]) for each in search(session, _OURS)]
        except _DESTROYED:
            if not reads_left:
                raise
        except PKCS11Error as error:
            if is_lost(error):
                raise
            raise _NotSupported from error
    return []
