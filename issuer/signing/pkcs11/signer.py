"""Private keys in a PKCS#11 token (an HSM): generated inside it, never extractable, found by CKA_ID.

The mechanisms of each algorithm are defined in `mechanisms`, the session and its error messages in `session`, and the
data object beside the keys in `checkpoint`.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import NoReturn

import jwt
from pkcs11 import Attribute, Key, Mechanism, ObjectClass, PKCS11Error, Session, SignMixin
from pkcs11 import PublicKey as PublicObject

from issuer.blocking import require_blocking_allowed
from issuer.errors import KeyUnavailable, Refused
from issuer.signing.algorithms import ALGORITHMS, CryptoPublicKey, PrivateKey
from issuer.signing.pkcs11.checkpoint import TokenCheckpoint
from issuer.signing.pkcs11.mechanisms import METHODS, Method
from issuer.signing.pkcs11.session import HANDLE_GONE, Token, search
from issuer.signing.public_key import PublicKey

PENDING = "jwks-issuer pending"
KEPT = "jwks-issuer kept"
"""CKA_LABEL: a tag that many objects share, not a name."""

_CHALLENGE = b"which private key is this?"


class Pkcs11Signer:
    """Signs with keys that never leave their token.

    The CKA_ID of both objects of a key is the kid, as the 43 bytes of its ASCII form; a key is found only by it.
    """

    def __init__(self, token: Token) -> None:
        self._token = token
        self.checkpoint_storage = TokenCheckpoint(token)
        self._loaded: dict[str, str] = {}
        self._handles: dict[str, SignMixin] = {}  # a handle is valid only in the session that found it

    def generate(self, alg: str) -> PublicKey:
        """Generate a key pair inside the token, pending."""
        return self._token.perform(lambda session: self._generate(session, alg))

    def import_key(self, key: PrivateKey, alg: str) -> NoReturn:
        """Refuse: a key that was made outside may exist elsewhere."""
        del key, alg
        raise Refused(
            "with ISSUER_KEYS=pkcs11 private keys are generated inside the token and never leave it: existing keys"
            " cannot be imported"
        )

    def keep(self, kid: str) -> None:
        """Label both key objects as permanent."""

        def keep(session: Session) -> None:
            for kind in (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY):
                for key in _found(session, kind, {**_with_id(kid), Attribute.LABEL: PENDING}):
                    key[Attribute.LABEL] = KEPT

        self._token.perform(keep)

    def load(self, kid: str, alg: str) -> None:
        """Find `kid`, which any process may have made, and verify that it is the key of that thumbprint."""

        def load(session: Session) -> None:
            self._handles[kid] = self._verified(session, kid, alg)
            self._loaded[kid] = alg

        if kid not in self._loaded:
            self._token.perform(load)

    def sign(self, kid: str, data: bytes) -> bytes:
        """Return the JWS signature of `data`."""
        require_blocking_allowed()  # a hardware token is slow

        def sign(session: Session) -> bytes:
            if kid not in self._loaded:
                raise KeyUnavailable(f"the private key {kid} is not loaded")
            alg = self._loaded[kid]
            key = self._handles.get(kid)
            if key is None or key.session is not session:
                key = self._handles[kid] = self._verified(session, kid, alg)
            try:
                return METHODS[alg].sign(key, data)
            except HANDLE_GONE:
                self._handles.pop(kid)
                raise

        return self._token.perform(sign)

    def unload_all_but(self, kids: Collection[str]) -> None:
        """Drop the handles of other keys, without a call to the token, which may be away."""
        for kid in set(self._loaded) - set(kids):
            self._forget(kid)

    def destroy(self, kid: str) -> bool:
        """Remove the private key object, then the public one; if this is interrupted, another call completes it.

        Only objects with the labels of this program are removed, as other programs may use the same token. Raise
        KeyUnavailable if an object with this kid and another label remains.
        """

        def destroy(session: Session) -> bool:
            self._forget(kid)
            private = _labelled(session, ObjectClass.PRIVATE_KEY, kid)
            for key in (*private, *_labelled(session, ObjectClass.PUBLIC_KEY, kid)):
                with suppress(*HANDLE_GONE):  # another process was faster
                    key.destroy()
            if _private_keys(session, kid):
                raise KeyUnavailable(
                    f"{self._token} holds a private key with the CKA_ID {kid} and not the label of this program: it"
                    " was not touched; if it is not another program's, destroy it with the token's own tool"
                )
            return bool(private)

        return self._token.perform(destroy)

    def kept(self) -> frozenset[str]:
        """Return the kids of all private keys with the label of permanent ones."""
        return self._token.perform(
            lambda session: frozenset(
                _name(key) for key in _found(session, ObjectClass.PRIVATE_KEY, {Attribute.LABEL: KEPT})
            )
        )

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the kids of key objects with our labels that belong to none of `kids`, each with its class."""

        def orphans(session: Session) -> list[str]:
            ours = [
                (_name(key), kind)
                for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
                for label in (PENDING, KEPT)
                for key in _found(session, kind, {Attribute.LABEL: label})
            ]
            return sorted(f"{name or 'unnamed'} ({kind.name})" for name, kind in ours if name not in kids)

        return self._token.perform(orphans)

    def rewrap(self, passphrase: str) -> NoReturn:
        """Refuse: this program does not encrypt the keys in a token."""
        del passphrase
        raise Refused(
            "with ISSUER_KEYS=pkcs11 the token protects its keys itself: change its PIN with its own tool, then in"
            " ISSUER_KEYS_PASSPHRASE[_FILE]"
        )

    def _forget(self, kid: str) -> None:
        self._loaded.pop(kid, None)
        self._handles.pop(kid, None)

    def _generate(self, session: Session, alg: str) -> PublicKey:
        method = METHODS[alg]
        self._require(session, alg, method.generating, method.signing)
        pair = method.generate(session, PENDING)
        try:
            public = self._read(method, alg, pair[0])
            for each in pair:
                each[Attribute.ID] = public.kid.encode()
            self._handles[public.kid] = self._verified(session, public.kid, alg)
        except BaseException:
            for each in reversed(pair):
                with suppress(PKCS11Error):  # the first error is the one that is raised
                    each.destroy()
            raise
        self._loaded[public.kid] = alg
        return public

    def _read(self, method: Method, alg: str, key: PublicObject) -> PublicKey:
        try:
            return ALGORITHMS[alg].to_public_key(method.read(key))
        except ValueError as error:
            raise KeyUnavailable(
                f"{self._token} made a key for {alg} whose public key cannot be read: {error}; choose another"
                " ISSUER_ALGORITHM, or another token"
            ) from error

    def _require(self, session: Session, alg: str, *needed: Mechanism) -> None:
        mechanisms = session.token.slot.get_mechanisms()
        missing = [mechanism.name for mechanism in needed if mechanism not in mechanisms]
        if missing:
            raise KeyUnavailable(
                f"{self._token} has no {alg} (it lacks {', '.join(missing)}): choose another ISSUER_ALGORITHM, or"
                " another token"
            )

    def _verified(self, session: Session, kid: str, alg: str) -> SignMixin:
        """Return the private key `kid`, after its signature verified with the public key of that thumbprint."""
        found = _private_keys(session, kid)
        if not found:
            raise KeyUnavailable(
                f"the private key {kid} is missing in {self._token}: restore the token from its backup; the issuer"
                " never makes another key in its place"
            )
        if len(found) > 1:
            raise KeyUnavailable(
                f"{self._token} holds {len(found)} private keys with the CKA_ID {kid}: destroy those that the issuer"
                " did not make, with the token's own tool"
            )
        (key,) = found
        method, algorithm = METHODS[alg], ALGORITHMS[alg]
        self._require(session, alg, method.signing)
        if not key[Attribute.SENSITIVE] or key[Attribute.EXTRACTABLE]:
            raise KeyUnavailable(f"the private key {kid} could be read out of {self._token}: revoke it")
        if not isinstance(key, SignMixin) or key.key_type != method.key_type:
            raise _swapped(kid)
        for public in _public_keys(session, kid, method):
            if algorithm.to_public_key(public).kid == kid:
                try:
                    algorithm.require_signed(public, _CHALLENGE, method.sign(key, _CHALLENGE))
                except jwt.InvalidSignatureError as error:
                    raise _swapped(kid) from error
                return key
        raise KeyUnavailable(
            f"the public key of {kid} is missing in {self._token}, or is another key's: restore the token from its"
            " backup"
        )


def _swapped(kid: str) -> KeyUnavailable:
    return KeyUnavailable(f"the private key stored as {kid} is another key: it was swapped or renamed")


def _public_keys(session: Session, kid: str, method: Method) -> Iterator[CryptoPublicKey]:
    for key in _found(session, ObjectClass.PUBLIC_KEY, _with_id(kid)):
        if isinstance(key, PublicObject) and key.key_type == method.key_type:
            with suppress(ValueError):  # damaged, and so not the one that is needed
                yield method.read(key)


def _found(session: Session, kind: ObjectClass, attributes: Mapping[Attribute, object]) -> list[Key]:
    found = search(session, {Attribute.CLASS: kind, **attributes})
    return [key for key in found if isinstance(key, Key)]


def _private_keys(session: Session, kid: str) -> list[Key]:
    return _found(session, ObjectClass.PRIVATE_KEY, _with_id(kid))


def _labelled(session: Session, kind: ObjectClass, kid: str) -> list[Key]:
    return [
        key
        for label in (PENDING, KEPT)
        for key in _found(session, kind, {**_with_id(kid), Attribute.LABEL: label})
    ]


def _with_id(kid: str) -> Mapping[Attribute, object]:
    return {Attribute.ID: kid.encode()}


def _name(key: Key) -> str:
    return key.id.decode("ascii", "backslashreplace")
