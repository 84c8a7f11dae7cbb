"""Validates authorization requests: first where the response may go, then everything else.

Until `return_address` has returned, an error is shown as a page; after that it is sent to the client (RFC 6749
section 4.1.2.1). What a valid request needs of the user is decided in `decision`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.authorize.claims_request import ClaimsRequest, read_claims_request
from issuer.authorize.errors import (
    NoRedirect,
    RegistrationNotSupported,
    RequestNotSupported,
    RequestURINotSupported,
    UnsupportedResponseType,
)
from issuer.authorize.pkce import requested_challenge
from issuer.authorize.request import (
    AuthorizationRequest,
    Parameters,
    Prompt,
    ReturnAddress,
)
from issuer.clients.client import Client
from issuer.clients.redirect_uris import closest, is_registered
from issuer.clients.resources import Resources
from issuer.oauth import (
    GrantType,
    InvalidRequest,
    InvalidScope,
    ResponseMode,
    ResponseType,
    parse_scope,
)
from issuer.tokens.entitlements import scope_limit
from issuer.tokens.hints import Hints
from issuer.tokens.resource_scope import scope_at

STATE_MOST_CHARACTERS = 2048
NONCE_MOST_CHARACTERS = 1024
_SECONDS = re.compile(r"[0-9]{1,10}")

FindClient = Callable[[str], Client | None]
"""Return the client with an identifier; None if it is unknown or disabled."""


@dataclass(frozen=True)
class Rules:
    """The settings and services that requests are validated with."""

    default_audience: tuple[str, ...]
    """The audience of clients that have none of their own."""
    issuer: str
    """Its URL. Tokens that are requested for no resource have it as an audience, for the userinfo endpoint."""
    prompts: frozenset[Prompt]
    """The supported ones, `prompt_values_supported`."""
    hints: Hints
    resources: Resources


def supported_prompts(*, is_registration_open: bool) -> frozenset[Prompt]:
    """Return the supported `prompt` values: accounts can be created only where registration is open."""
    return frozenset(Prompt) if is_registration_open else frozenset(Prompt) - {Prompt.CREATE}


def require_client(parameters: Parameters, find_client: FindClient) -> Client:
    """Return the client that a request names; raise NoRedirect."""
    client_id = dict(parameters).get("client_id")
    if client_id is None:
        raise NoRedirect("client_id is missing")
    client = find_client(client_id)
    if client is None:
        raise NoRedirect("no client is registered with this client_id, or it is disabled")
    return client


def return_address(parameters: Parameters, client: Client) -> ReturnAddress:
    """Return where the response of a request goes; raise NoRedirect if that is not certain."""
    given = dict(parameters)
    state = given.get("state")
    if state is not None and len(state) > STATE_MOST_CHARACTERS:
        raise NoRedirect(f"state has more than {STATE_MOST_CHARACTERS} characters")
    sent = given.get("redirect_uri")
    if sent is None:
        raise NoRedirect("redirect_uri is missing: it is always required here")
    if not is_registered(sent, client.redirect_uris):
        raise NoRedirect(
            "the redirect_uri is not one that is registered for this client",
            sent=sent,
            registered=closest(sent, client.redirect_uris) or "",
        )
    mode = given.get("response_mode")
    known = ResponseMode(mode) if mode in set(ResponseMode) else ResponseMode.QUERY
    return ReturnAddress(client, sent, state, known)


def validated(
    to: ReturnAddress, parameters: Parameters, rules: Rules, now: datetime, pushed: bytes | None = None
) -> AuthorizationRequest:
    """Return the request in `parameters`; raise OAuthError, which is sent `to` the client.

    `pushed` is the digest of its `request_uri`, if it was pushed.
    """
    given = {name: value for name, value in parameters if name != "resource"}
    resources = tuple(value for name, value in parameters if name == "resource")
    _require_supported(given, to.client, is_pushed=pushed is not None)
    prompt = _prompt(given.get("prompt"), rules.prompts)
    challenge = requested_challenge(
        given.get("code_challenge"),
        given.get("code_challenge_method"),
        is_required=to.client.requires_pkce or not to.client.is_confidential,
    )
    audience = _audience(to.client, resources, rules)
    scope = requested_scope(given.get("scope"), to.client)
    if resources:
        scope = scope_at(audience, scope, rules.resources)
    claims = read_claims_request(given["claims"]) if "claims" in given else ClaimsRequest()
    return AuthorizationRequest(
        returns_to=to,
        scope=scope,
        audience=audience,
        resources=audience if resources else (),
        challenge=challenge,
        nonce=_nonce(given.get("nonce")),
        prompt=prompt,
        max_age=_max_age(given.get("max_age")),
        login_hint=given.get("login_hint", ""),
        expected_user=_expected_user(given.get("id_token_hint"), claims.subject, to.client, rules, now),
        essential_acr=claims.essential_acr,
        userinfo_claims=claims.userinfo,
        parameters=parameters,
        pushed=pushed,
    )


def requested_scope(text: str | None, client: Client) -> frozenset[str]:
    """Return what a client may have of the scope that it requested; raise InvalidScope if that is nothing.

    Without a scope it is the client's own. Scopes that it may not have are left out, RFC 6749 section 3.3.
    """
    if text is None:
        return client.scope
    scope = parse_scope(text) & scope_limit(client)
    if not scope:
        raise InvalidScope("this client may have none of the requested scopes")
    return scope


def _require_supported(given: Mapping[str, str], client: Client, *, is_pushed: bool) -> None:
    if "request" in given:
        raise RequestNotSupported
    if "request_uri" in given:
        raise RequestURINotSupported
    if "registration" in given:
        raise RegistrationNotSupported
    if client.requires_par and not is_pushed:
        raise InvalidRequest("this client must push its requests (RFC 9126)")
    if given.get("response_mode", ResponseMode.QUERY) not in set(ResponseMode):
        raise InvalidRequest("response_mode must be query or form_post")
    if "response_type" not in given:
        raise InvalidRequest("response_type is missing")
    if given["response_type"] != ResponseType.CODE:
        raise UnsupportedResponseType
    client.require_grant(GrantType.AUTHORIZATION_CODE)


def _prompt(text: str | None, supported: Iterable[Prompt]) -> frozenset[Prompt]:
    names = frozenset((text or "").split(" ")) - {""}
    known = {prompt.value: prompt for prompt in supported}
    if not names <= known.keys():  # Prompt Create section 4.1
        raise InvalidRequest(f"prompt may be {', '.join(sorted(known))}")
    if Prompt.NONE in names and len(names) > 1:
        raise InvalidRequest("prompt=none must stand alone")
    return frozenset(known[name] for name in names)


def _audience(client: Client, resources: tuple[str, ...], rules: Rules) -> tuple[str, ...]:
    """Return the `aud` of the access tokens, RFC 8707 section 2.

    Without a resource the issuer is among them. With one it is not: a service must not be able to act at the issuer
    with the tokens that it receives.
    """
    own = client.audiences or rules.default_audience
    if resources:
        return rules.resources.audience(resources, (*own, rules.issuer))
    return tuple(dict.fromkeys((*own, rules.issuer)))


def _nonce(nonce: str | None) -> str | None:
    if nonce is not None and not (len(nonce) <= NONCE_MOST_CHARACTERS and nonce.isprintable()):
        raise InvalidRequest(f"nonce must have at most {NONCE_MOST_CHARACTERS} printable characters")
    return nonce


def _max_age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if not _SECONDS.fullmatch(text):
        raise InvalidRequest("max_age must be a number of seconds, 0 or more")
    return timedelta(seconds=int(text))


def _expected_user(
    hint: str | None, subject: str | None, client: Client, rules: Rules, now: datetime
) -> str | None:
    """Return the `sub` that must sign in, or None; raise InvalidRequest."""
    if hint is None:
        return subject
    try:
        hinted = rules.hints.read(hint, now)
    except ValueError:
        raise InvalidRequest("id_token_hint is not an id_token of this issuer") from None
    if hinted.client_id != client.id:
        raise InvalidRequest("id_token_hint was issued for another client")
    if subject not in {None, hinted.sub}:
        raise InvalidRequest("id_token_hint and claims name different users")
    return hinted.sub
