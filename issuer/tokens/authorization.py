"""What a grant allows; the tokens for it are made by `access_tokens`, `id_tokens` and `families`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from issuer.accounts.user import User
from issuer.tokens.refresh import NewFamily, Renewal


@dataclass(frozen=True)
class Authorization:
    """The most that a grant allows: to which client, and in whose name; the pipeline narrows it."""

    subject: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    """The `aud` of a request that names no resource, and the resources that it may name."""
    username: str | None = None
    family: NewFamily | Renewal | None = None
    nonce: str | None = field(default=None, repr=False)
    """Of the authorization request, for the id_token that redeems its code."""
    user: User | None = field(default=None, repr=False)
    """The user; None for a client that acts for itself."""
    id_token_claims: tuple[str, ...] = ()
    """The claims about the user that the client gets in id_tokens, if the scope requests them."""
    roles: frozenset[str] | None = None
    """What the claim `roles` of the access token names; None: it has none."""
    further_claims: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """See `further_claims`."""
    may_have_no_scope: bool = False
    """Whether nothing may remain of the scope. An error after a password was verified would reveal that it is
    correct, without a session that the owner of the account can see."""
