"""The JSON document of a key ring, as it is stored in the database and in the checkpoint.

Which rings are valid is decided in `validation` and `signing.public_key`.
"""

from pydantic import TypeAdapter

from issuer.keyring.ring import KeyRing
from issuer.keyring.tombstone import LONGEST_DOCUMENT
from issuer.keyring.validation import invalid_reason

_DOCUMENT = TypeAdapter(KeyRing)


class Unreadable(ValueError):
    """The document of a ring is damaged; the message says how."""


def written(ring: KeyRing) -> bytes:
    """Return the document of a ring; it holds nothing secret."""
    return _DOCUMENT.dump_json(ring)


def read(document: object) -> KeyRing:
    """Return the ring in a document; raise Unreadable for one that cannot be what `written` returned.

    Write access to the database, or to the checkpoint, must not be enough to make a node destroy or publish keys that
    the ring never held: every ring passes this check before it is used.
    """
    if not isinstance(document, str | bytes) or len(document) > LONGEST_DOCUMENT:
        raise Unreadable("it is not the document of a key ring")
    try:
        ring = _DOCUMENT.validate_json(document)
    # ValidationError is a ValueError, and would quote the document; deep nesting ends in a RecursionError.
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        raise Unreadable("it cannot be read") from None
    error = invalid_reason(ring) or next(filter(None, (key.integrity_error() for key in ring.keys)), None)
    if error:
        raise Unreadable(error)
    return ring
