"""Reads untrusted JSON that has one meaning for every parser: no repeated member, no NaN (RFC 8259, RFC 7493)."""

import json
from typing import Any


class MemberRepeated(ValueError):
    """An object repeats a member; some parsers use the first, others the last."""

    def __init__(self) -> None:
        super().__init__("a member is repeated")


class BadDocument(ValueError):
    """A document that somebody has written is not accepted; the message says where, and why."""


def read_document(text: bytes | str) -> Any:
    """Return the document in `text`, UTF-8 with or without a byte order mark; raise ValueError or MemberRepeated."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MemberRepeated
    return members


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
