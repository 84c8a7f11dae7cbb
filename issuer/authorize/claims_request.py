"""The parameter `claims`, OpenID Connect Core section 5.5, read strictly.

Which claims there are, and what each contains, is decided in `tokens`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from issuer.oauth import InvalidRequest
from issuer.strict_json import read_document

_NAME = re.compile(r"[\x21-\x7e]{1,100}")


@dataclass(frozen=True)
class ClaimsRequest:
    """What is requested by `claims`."""

    userinfo: tuple[str, ...] = ()
    """Names of claims for the userinfo endpoint; all are voluntary."""
    essential_acr: tuple[str, ...] = ()
    """The values of `acr` of which one must be reached; empty: any will do."""
    subject: str | None = None
    """The `sub` that must sign in."""


def read_claims_request(text: str) -> ClaimsRequest:
    """Return what `text` requests; raise InvalidRequest unless it is JSON in the form of section 5.5."""
    try:
        document = read_document(text)
    except ValueError:
        raise InvalidRequest("claims is not a JSON object, or repeats a member") from None
    userinfo, id_token = (_members(document, name) for name in ("userinfo", "id_token"))
    subjects = {value for each in (userinfo, id_token) for value in _values(each.get("sub"))}
    if len(subjects) > 1:
        raise InvalidRequest("claims requests several values of sub")
    acr = id_token.get("acr") or {}
    essential = tuple(_values(acr)) if acr.get("essential") is True else ()
    return ClaimsRequest(tuple(userinfo), essential, next(iter(subjects), None))


def _members(document: Any, name: str) -> Mapping[str, Mapping[str, Any] | None]:
    """Return the claims that one member of the parameter requests, by their names."""
    members = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(members, dict):
        raise InvalidRequest(
            f"claims must be an object with the members userinfo and id_token; {name} is not one"
        )
    for claim, wanted in members.items():
        _require_well_formed(claim, wanted)
    return members


def _require_well_formed(claim: str, wanted: object) -> None:
    if not _NAME.fullmatch(claim):
        raise InvalidRequest("claims requests a claim whose name is not printable ASCII")
    if wanted is None:
        return
    if (
        not isinstance(wanted, dict)
        or not isinstance(wanted.get("essential", False), bool)
        or not isinstance(wanted.get("values", []), list)
    ):
        raise InvalidRequest(f"claims: {claim} must be null, or an object with essential, value or values")
    if claim in {"sub", "acr"} and not all(isinstance(each, str) for each in _values(wanted)):
        raise InvalidRequest(f"claims: the values of {claim} must be strings")


def _values(wanted: Mapping[str, Any] | None) -> Iterator[Any]:
    """Yield the values that a claim may have; none: any value."""
    if wanted is not None:
        yield from [wanted["value"]] if "value" in wanted else wanted.get("values", [])
