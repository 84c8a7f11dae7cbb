"""The session of a process on a PKCS#11 token: the module, forks, the lock, lost sessions, and error messages.

The keys in the token are managed by `signer`. The package `pkcs11` is installed with the extra of that name.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pkcs11
from pkcs11 import Attribute, Object, PKCS11Error, RandomNoRNG, Session

from issuer.errors import KeyUnavailable

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - its class has the name of a function

T = TypeVar("T")

OPEN_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""The pauses between attempts to open the token for the first time: processes that start together collide."""

HANDLE_GONE = (pkcs11.KeyHandleInvalid, pkcs11.ObjectHandleInvalid)
"""An object was destroyed, perhaps by another process, or belongs to a session that no longer exists."""

SESSION_GONE = (
    pkcs11.DeviceRemoved,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
)
"""The session or its token is gone, whatever the call was."""

_LOST = (
    *SESSION_GONE,
    pkcs11.DeviceError,
    pkcs11.GeneralError,
    pkcs11.OperationActive,
    pkcs11.UserNotLoggedIn,
)
_STARTING = (
    pkcs11.DeviceError,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.NoSuchToken,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
)
_PIN_REFUSED = (
    pkcs11.PinExpired,
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)

_WRONG_PIN = (
    "refuses the PIN: correct ISSUER_KEYS_PASSPHRASE[_FILE]; this process does not try the same PIN again, as too"
    " many wrong ones lock a token"
)
_NOT_FOUND = "is not there: insert or initialise it, or correct ISSUER_PKCS11_TOKEN (its label)"
_BROKEN = "failed: check that it is connected, and see its own log"
_INCAPABLE = (
    "does not support what the key or its algorithm needs: choose another ISSUER_ALGORITHM, or another token"
)
_NO_KEY = "no longer has a key that it had: list its objects with its own tool"
_READ_ONLY = "cannot be written to: lift its write protection with its own tool"
_ADVICE: Mapping[type[PKCS11Error], str] = {
    pkcs11.DeviceError: _BROKEN,
    pkcs11.DeviceMemory: "is full: destroy what is no longer needed in it with its own tool",
    pkcs11.DeviceRemoved: _NOT_FOUND,
    pkcs11.FunctionFailed: "failed: it may be full or broken; see its own log",
    pkcs11.GeneralError: "or its module is not set up: see its configuration (of SoftHSM: SOFTHSM2_CONF)",
    pkcs11.KeyHandleInvalid: _NO_KEY,
    pkcs11.KeySizeRange: _INCAPABLE,
    pkcs11.MechanismInvalid: _INCAPABLE,
    pkcs11.MechanismParamInvalid: _INCAPABLE,
    pkcs11.MultipleTokensReturned: "is one of several with that label: give each another",
    pkcs11.NoSuchToken: _NOT_FOUND,
    pkcs11.ObjectHandleInvalid: _NO_KEY,
    pkcs11.PinExpired: "requires a new PIN: set it with its own tool, and in ISSUER_KEYS_PASSPHRASE[_FILE]",
    pkcs11.PinIncorrect: _WRONG_PIN,
    pkcs11.PinInvalid: _WRONG_PIN,
    pkcs11.PinLenRange: _WRONG_PIN,
    pkcs11.PinLocked: "has locked its PIN after too many wrong ones: unlock it with its own tool",
    pkcs11.SessionCount: "has no session left: end other programs that use it",
    pkcs11.SessionReadOnly: _READ_ONLY,
    pkcs11.TokenNotPresent: _NOT_FOUND,
    pkcs11.TokenNotRecognised: _NOT_FOUND,
    pkcs11.TokenWriteProtected: _READ_ONLY,
    pkcs11.UserPinNotInitialized: "has no user PIN yet: set one with its own tool",
}


class _Process:
    """The state of Cryptoki that all users in a process share.

    The package calls C_Initialize without allowing threads, so only one call into the module is made at a time.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.generation = 0
        """How often the module was initialised: sessions and handles of an earlier generation are not valid."""
        self._used: set[Path] = set()
        self._inherited: set[Path] = set()
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    def library(self, module: Path) -> "Library":
        """Return the module, initialised for this process."""
        if module in self._inherited:
            self.restart(module)
        self._used.add(module)
        return pkcs11.lib(str(module))  # C_Initialize, if it was not called yet

    def restart(self, module: Path) -> None:
        """Initialise the module again at its next use; all sessions end."""
        self.generation += 1
        self._inherited.discard(module)
        if module in self._used:
            # It may not be initialised: some modules detect a fork themselves.
            with suppress(PKCS11Error):
                pkcs11.lib(str(module)).finalize()

    def _before_fork(self) -> None:
        self.lock.acquire()  # no fork during a call: the child would copy its unfinished state

    def _in_parent(self) -> None:
        self.lock.release()

    def _in_child(self) -> None:
        """Drop all sessions: the child must call C_Initialize itself (PKCS #11 v2.20 section 6.6.1)."""
        self.lock = threading.RLock()
        self._inherited = set(self._used)
        self.generation += 1


_process = _Process()


class Token:
    """A token, and one session on it that all threads of a process share; the PIN is never shown."""

    def __init__(
        self,
        module: Path,
        label: str,
        pin: Callable[[], str],
        open_pauses: Iterable[float] = OPEN_PAUSES_SECONDS,
    ) -> None:
        self._module = module
        self._label = label
        self._pin = pin  # called each time: an operator may change it while this process runs
        self._open_pauses = open_pauses
        self._session: Session | None = None
        self._opened_in = 0, 0
        self._refused: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"the PKCS#11 token {self._label}"

    def perform(self, work: Callable[[Session], T]) -> T:
        """Return the result of `work` with the session; raise KeyUnavailable with what to do.

        `work` is repeated once, in a new session if the session was lost, and in the same one if an object was: it
        must be harmless to repeat.
        """
        with self._translated(), _process.lock:
            session = self._opened()
            try:
                return work(session)
            except HANDLE_GONE:
                return work(session)
            except PKCS11Error as error:
                if not is_lost(error):
                    raise
            _process.restart(self._module)
            return work(self._opened())

    def _opened(self) -> Session:
        process, generation = self._opened_in
        if self._session is None or (process, generation) != (os.getpid(), _process.generation):
            # No pauses when a lost session is opened again: requests wait for the lock.
            session = self._open() if process == os.getpid() else self._open_first()
            self._session, self._opened_in = session, (os.getpid(), _process.generation)
        return self._session

    def _open_first(self) -> Session:
        for pause in self._open_pauses:
            try:
                return self._open()
            except _STARTING:
                time.sleep(pause)
        return self._open()

    def _open(self) -> Session:
        pin = self._pin()
        if self._refused and self._refused[0] == pin:
            raise KeyUnavailable(self._refused[1])
        try:
            token = self._library().get_token(token_label=self._label)
            return token.open(rw=True, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            # Another session of this process logged in, which counts for all of them.
            return token.open(rw=True)
        except _PIN_REFUSED as error:
            self._refused = pin, self._explained(error)
            raise
        except _STARTING:
            # It reads its list of tokens once: the next attempt needs a new one.
            _process.restart(self._module)
            raise

    def _library(self) -> "Library":
        try:
            return _process.library(self._module)
        except PKCS11Error as error:
            if type(error) is not PKCS11Error:
                raise
            raise KeyUnavailable(
                f"cannot load the PKCS#11 module {self._module}: {error}; correct ISSUER_PKCS11_MODULE"
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PKCS11Error as error:
            raise KeyUnavailable(self._explained(error)) from error

    def _explained(self, error: PKCS11Error) -> str:
        name = type(error).__name__
        return f"{self} {_ADVICE.get(type(error), _BROKEN)} ({name}, module {self._module})"


def is_lost(error: PKCS11Error) -> bool:
    """Whether a new session may help; the package has no type for "not initialised" and for errors of vendors."""
    return isinstance(error, _LOST) or type(error) is PKCS11Error


def search(session: Session, attributes: Mapping[Attribute, object]) -> list[Object]:
    """Return the objects with these attributes that the session sees."""
    # The package prints to standard error if a search fails at its start: detect a lost session before.
    with suppress(RandomNoRNG):
        session.generate_random(8)
    return list(session.get_objects(dict(attributes)))
