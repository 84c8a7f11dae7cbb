"""Files in which deployments declare their clients: what each member means, and which values are accepted.

Their form is read by `yaml_nodes`; what registering them changes is decided in `client_plan`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from issuer.administration.clients import ClientOptions, new_client, require_audiences, require_scope
from issuer.administration.yaml_nodes import Located, read_located
from issuer.clients.client import FIRST_PARTY_ID, SECRET_METHODS, Client
from issuer.clients.key_sets import read_key_set
from issuer.clients.outgoing_http import is_reachable
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS, AuthMethod, GrantType, InvalidRequest, OAuthError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

DOCUMENT = ("clients", "secrets_file")
MEMBERS = (
    "client_id",
    "name",
    "auth",
    "scope",
    "audiences",
    "grant_types",
    "redirect_uris",
    "post_logout_redirect_uris",
    "backchannel_logout_uri",
    "is_trusted",
    "requires_pkce",
    "requires_par",
    "id_token_claims",
    "has_roles_claim",
    "jwks",
    "jwks_uri",
    "secret_sha256",
)
_CLIENT_ID = re.compile(rf"[!-~]{{1,{CLIENT_ID_MOST_CHARACTERS}}}")
"""What a request may name: `ClientStore.find_enabled`; without blanks, as it is copied from tables."""
_NOT_IN_BASIC = frozenset(":%+")
"""Characters that programs which do not encode the id in `Authorization: Basic` would send in vain."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DeclaredClient:
    """A client in a file."""

    place: Located
    client: Client
    """As it is to be registered; with a new id, unless the file names one, and a new secret, unless it has a hash."""
    has_id: bool
    has_hash: bool
    secret: str | None = field(default=None, repr=False)
    """Its new secret, to be written to a file."""


@dataclass(frozen=True)
class ClientFile:
    """The contents of a file."""

    clients: tuple[DeclaredClient, ...]
    secrets_file: str | None
    """Where new secrets are written."""


def read_clients(content: bytes, default_audience: str, now: datetime, *, is_json: bool) -> ClientFile:
    """Return the contents of a file of clients; raise BadDocument, which names the place."""
    members = read_located(content, is_json=is_json)
    found = members.members(DOCUMENT)
    if "clients" not in found:
        raise members.refused("needs a member clients")
    declared = tuple(_declared(each, default_audience, now) for each in found["clients"].items())
    _require_distinct(declared)
    secrets_file = found["secrets_file"].text() if "secrets_file" in found else None
    if secrets_file == "":
        raise found["secrets_file"].refused("is empty")
    return ClientFile(declared, secrets_file)


def _declared(place: Located, default_audience: str, now: datetime) -> DeclaredClient:
    given = place.members(MEMBERS)
    if "name" not in given:
        raise place.refused("needs a member name")
    auth = _member(given, "auth", AuthMethod, AuthMethod.BASIC)
    client, secret = _checked(
        place,
        lambda: new_client(
            given["name"].text(),
            auth,
            _value(given, "scope", lambda at: require_scope(at.text()), frozenset[str]()),
            _value(given, "audiences", lambda at: require_audiences(_texts(at), default_audience), ()),
            now,
            **_options(given),
        ),
    )
    _require_keys(place, client)
    digest = _value(given, "secret_sha256", _digest, None)
    if digest is not None and auth not in SECRET_METHODS:
        raise given["secret_sha256"].refused(f"a client with auth {auth} has no secret")
    client_id = _value(given, "client_id", _client_id, None)
    client = replace(client, id=client_id or client.id, secret_digest=digest or client.secret_digest)
    return DeclaredClient(
        place, client, client_id is not None, digest is not None, None if digest is not None else secret
    )


def _options(given: Mapping[str, Located]) -> ClientOptions:
    grants = _value(given, "grant_types", lambda at: frozenset(_each(at, GrantType)), None)
    return {
        "jwks": _value(given, "jwks", _jwks, None),
        "jwks_uri": _value(given, "jwks_uri", Located.text, None),
        "grant_types": grants,
        "redirect_uris": _value(given, "redirect_uris", _texts, ()),
        "post_logout_redirect_uris": _value(given, "post_logout_redirect_uris", _texts, ()),
        "backchannel_logout_uri": _value(given, "backchannel_logout_uri", Located.text, None),
        "is_trusted": _value(given, "is_trusted", Located.flag, default=False),
        "requires_pkce": _value(given, "requires_pkce", Located.flag, default=True),
        "requires_par": _value(given, "requires_par", Located.flag, default=False),
        "id_token_claims": _value(given, "id_token_claims", _texts, ()),
        "has_roles_claim": _value(given, "has_roles_claim", Located.flag, default=False),
    }


def _value(given: Mapping[str, Located], name: str, read: Callable[[Located], T], default: T) -> T:
    return _checked(given[name], lambda: read(given[name])) if name in given else default


def _checked(place: Located, make: Callable[[], T]) -> T:
    """Return what `make` does; what it refuses is refused at `place`."""
    try:
        return make()
    except OAuthError as error:
        raise place.refused(error) from None


def _member(given: Mapping[str, Located], name: str, kind: type[E], default: E) -> E:
    return _value(given, name, lambda at: _of(at, kind), default)


def _of(place: Located, kind: type[E]) -> E:
    try:
        return kind(place.text())
    except ValueError:
        raise place.refused(f"must be one of {', '.join(kind)}") from None


def _each(place: Located, kind: type[E]) -> tuple[E, ...]:
    return tuple(_of(item, kind) for item in place.items())


def _texts(place: Located) -> tuple[str, ...]:
    return tuple(item.text() for item in place.items())


def _client_id(place: Located) -> str:
    text = place.text()
    if not _CLIENT_ID.fullmatch(text) or text.startswith("-") or _NOT_IN_BASIC.intersection(text):
        raise InvalidRequest(
            f"must have 1 to {CLIENT_ID_MOST_CHARACTERS} printable ASCII characters without spaces, `:`, `%`"
            " and `+`, and no dash at its beginning"
        )
    if text == FIRST_PARTY_ID:
        raise InvalidRequest("is the built-in client")
    return text


def _digest(place: Located) -> bytes:
    text = place.text()
    if not _SHA256.fullmatch(text):
        raise InvalidRequest("must be 64 hexadecimal digits in lower case, as sha256sum prints them")
    return bytes.fromhex(text)


def _jwks(place: Located) -> str:
    document = place.value()
    try:
        read_key_set(document)
    except ValueError as error:
        raise place.refused(error) from None
    return json.dumps(document)


def _require_keys(place: Located, client: Client) -> None:
    given = [each for each in (client.jwks, client.jwks_uri) if each is not None]
    if len(given) != (client.auth_method is AuthMethod.PRIVATE_KEY_JWT):
        raise place.refused("auth private_key_jwt needs jwks or jwks_uri, and nothing else takes them")
    if client.jwks_uri is not None and not is_reachable(client.jwks_uri):
        raise place.refused("jwks_uri must be an https URL (http on loopback), without a fragment")


def _require_distinct(declared: tuple[DeclaredClient, ...]) -> None:
    """Raise BadDocument for a client that is there twice: by its id, or by a name that alone identifies it."""
    ids: set[str] = set()
    names: dict[str, bool] = {}
    for each in declared:
        if each.client.id in ids:
            raise each.place.refused(f"another client in the file has the client_id {each.client.id}")
        ids.add(each.client.id)
        name = each.client.name
        if name in names and not (each.has_id and names[name]):
            raise each.place.refused(
                f"another client in the file has the name {name!r}; give both a client_id"
            )
        names[name] = each.has_id
