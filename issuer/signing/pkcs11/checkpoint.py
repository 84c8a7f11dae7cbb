"""What is noted with the private keys in a PKCS#11 token: a data object of ours, in place of the one before.

What it says is decided in `keyring.private_keys`. Nothing locks a token, and several nodes note at once: each writes
its own before it destroys those in whose place it comes, so that there is always one, and for a while perhaps more.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from pkcs11 import Attribute, FunctionFailed, Object, ObjectClass, PKCS11Error, Session

from issuer.signing.pkcs11.session import HANDLE_GONE, SESSION_GONE, Token, is_lost, search

CHECKPOINT = "jwks-issuer ring"
"""CKA_LABEL of the note."""
APPLICATION = "jwks-issuer"

LOOK_AGAIN_SECONDS = 10
"""How long what was read is good enough: a token is slow, and nodes look at the ring every second."""

LOOKS = 5
"""How often notes are read again that other nodes destroy meanwhile."""

PAUSES_SECONDS = (0.05, 0.2)
"""Between looks before it is believed that there is none: what another node is writing may hide for a moment."""

_OURS = {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: APPLICATION, Attribute.LABEL: CHECKPOINT}

_DESTROYED = (*HANDLE_GONE, FunctionFailed)
"""What a token says of an object that another process destroys at this moment."""

log = structlog.get_logger("issuer.keys")


class _NotTaken(Exception):
    """The token takes no note; the cause tells why."""


class TokenCheckpoint:
    """The note in a token, private and readable after the log-in alone.

    A token that takes none is no reason to stop: it is logged once, and tried again when there is something else to
    note. Every method raises KeyUnavailable for a token that cannot be used at all.
    """

    def __init__(self, token: Token, seconds: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._seconds = seconds
        self._seen: Sequence[bytes] = ()
        self._looked_at: float | None = None
        self._not_taken: bytes | None = None
        self._is_told = False

    def read(self) -> Sequence[bytes]:
        """Return what is noted, as it was LOOK_AGAIN_SECONDS ago or later: several texts if nodes noted at once."""
        now = self._seconds()
        if self._looked_at is None or now - self._looked_at >= LOOK_AGAIN_SECONDS:
            try:
                self._seen = self._looked(is_none_likely=self._looked_at is not None and not self._seen)
            except _NotTaken as refusal:
                self._tell(refusal)
            self._looked_at = now
        return self._seen

    def _looked(self, *, is_none_likely: bool) -> Sequence[bytes]:
        for pause in () if is_none_likely else PAUSES_SECONDS:
            if texts := self._token.perform(_texts):
                return texts
            time.sleep(pause)  # and lets others use the token
        return self._token.perform(_texts)

    def write(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Note `text` if it `replaces` all that is noted, in a token that holds private keys."""
        if text == self._not_taken:
            return
        now = self._seconds()
        try:
            self._seen = self._token.perform(lambda session: _written(session, text, replaces))
        except _NotTaken as refusal:
            self._not_taken = text
            self._tell(refusal)
        self._looked_at = now

    def _tell(self, refusal: _NotTaken) -> None:
        if not self._is_told:
            log.warning(
                "the key ring is not noted with its private keys",
                reason=f"{self._token} takes no data object of ours ({type(refusal.__cause__).__name__}): a restored"
                " older database is not noticed; after each change note what `issuer audit verify` prints elsewhere",
            )
        self._is_told = True


def _written(session: Session, text: bytes, replaces: Callable[[bytes], bool]) -> Sequence[bytes]:
    there = [(each, noted, replaces(noted)) for each, noted in _notes(session)]
    stay = [noted for _, noted, is_old in there if not is_old]
    if not stay:
        if not search(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY}):
            return [noted for _, noted, _ in there]  # the token was named by mistake, or is new
        _create(session, text)
        stay = [text]
    for each, _, is_old in there:
        if is_old:
            with suppress(*_DESTROYED):  # another node was quicker; if not, the next one does it
                each.destroy()
    return stay


def _create(session: Session, text: bytes) -> None:
    template = {**_OURS, Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.VALUE: text}
    try:
        session.create_object(template)
    except SESSION_GONE:
        raise
    except PKCS11Error as error:  # whatever it says: it has just answered a search in this session
        raise _NotTaken from error


def _texts(session: Session) -> Sequence[bytes]:
    return [text for _, text in _notes(session)]


def _notes(session: Session) -> Sequence[tuple[Object, bytes]]:
    for looks_left in reversed(range(LOOKS)):
        try:
            return [(each, each[Attribute.VALUE]) for each in search(session, _OURS)]
        except _DESTROYED:
            if not looks_left:
                raise
        except PKCS11Error as error:
            if is_lost(error):
                raise
            raise _NotTaken from error
    return []
