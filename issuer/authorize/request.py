"""A validated authorization request, RFC 6749 section 4.1.1 and OpenID Connect Core section 3.1.2.1.

`validation` makes it from the parameters; what it still needs is decided in `flow`.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from issuer.clients.client import Client
from issuer.oauth import ResponseMode
from issuer.tokens.identity import IDENTITY_SCOPES


class Prompt(StrEnum):
    """The `prompt` values, OpenID Connect Core section 3.1.2.1 and Prompt Create section 4."""

    NONE = "none"
    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"
    CREATE = "create"


def scope_of_user(scope: frozenset[str], granted: frozenset[str]) -> frozenset[str]:
    """Return what of a scope a user may give: the identity scopes, and of the others those that the user has."""
    return scope & (granted | IDENTITY_SCOPES)


Parameters = tuple[tuple[str, str], ...]
"""The parameters of a request in their order; only `resource` may be repeated."""


@dataclass(frozen=True)
class ReturnAddress:
    """Where the response of a request goes; known before the rest of the request is validated."""

    client: Client
    redirect_uri: str
    state: str | None = None
    response_mode: ResponseMode = ResponseMode.QUERY


@dataclass(frozen=True)
class AuthorizationRequest:
    """A request that is valid, whoever signs in."""

    returns_to: ReturnAddress
    scope: frozenset[str]
    """What was requested and the client may have; the scopes of the user limit it further."""
    audience: tuple[str, ...]
    """The `aud` of access tokens."""
    resources: tuple[str, ...] = ()
    """The resources that were requested by name, RFC 8707; consent is given for these."""
    challenge: str | None = None
    """The S256 `code_challenge`, RFC 7636; None only for a client that does not require PKCE."""
    nonce: str | None = field(default=None, repr=False)
    prompt: frozenset[Prompt] = frozenset()
    max_age: timedelta | None = None
    login_hint: str = ""
    """Fills the username field of the sign-in page, and nothing else."""
    expected_user: str | None = None
    """The `sub` that must sign in: of `id_token_hint`, or requested as a claim."""
    essential_acr: tuple[str, ...] = ()
    """The `acr` values of which one must be reached, OpenID Connect Core section 5.5.1.1; empty: any will do."""
    userinfo_claims: tuple[str, ...] = ()
    """Claims that were requested from the userinfo endpoint by name, section 5.5."""
    parameters: Parameters = field(default=(), repr=False)
    """As they were sent, to validate them again at the next step."""
    pushed: bytes | None = field(default=None, repr=False)
    """The digest of the `request_uri` that pushed it, RFC 9126; consumed when a code is issued."""

    @property
    def client(self) -> Client:
        """The client that asks."""
        return self.returns_to.client
