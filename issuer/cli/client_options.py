"""The options of `issuer clients add`: names and help.

What is accepted is decided in `administration.clients`.
"""

from pathlib import Path
from typing import Annotated

import typer

from issuer.oauth import AuthMethod, GrantType

Name = Annotated[str | None, typer.Argument(help="A display name.")]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="Register the clients of a YAML or JSON file: all or none."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="With --from: delete registered clients that are not in the file.")
]
Overlap = Annotated[
    str,
    typer.Option(help="With --from: how long a secret that the file replaces stays valid; 0: not at all."),
]
Scope = Annotated[str, typer.Option(help="The scopes to grant, separated by spaces.")]
Audience = Annotated[
    list[str] | None, typer.Option(help="A resource for which it may request tokens; repeatable.")
]
Auth = Annotated[
    AuthMethod,
    typer.Option(
        help="Its authentication method: a secret, private_key_jwt with a key pair, or none for an application that"
        " runs in the browser, on a phone or on a desktop."
    ),
]
Jwks = Annotated[Path | None, typer.Option(help="A file with its JWKS, for private_key_jwt.")]
JwksURI = Annotated[str | None, typer.Option(help="The https URL of its JWKS, instead of --jwks.")]
RedirectURIs = Annotated[
    list[str] | None,
    typer.Option("--redirect-uri", metavar="URI", help="Where users return to after signing in; repeatable."),
]
PostLogoutRedirectURIs = Annotated[
    list[str] | None,
    typer.Option(
        "--post-logout-redirect-uri",
        metavar="URI",
        help="Where users return to after signing out; repeatable.",
    ),
]
Grants = Annotated[
    list[GrantType] | None,
    typer.Option(
        "--grant",
        metavar="NAME",
        help="A grant that it may use; repeatable. Default: authorization_code and refresh_token with a redirect"
        " URI, client_credentials and refresh_token without one.",
    ),
]
BackchannelLogoutURI = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the issuer reports that a user has signed out.")
]
Trusted = Annotated[bool, typer.Option("--trusted", help="Do not ask users for consent.")]
NoPKCE = Annotated[
    bool, typer.Option("--no-pkce", help="Accept sign-ins without PKCE, for applications that cannot use it.")
]
IdTokenClaims = Annotated[
    str,
    typer.Option(
        "--id-token-claims",
        metavar="NAMES",
        help="Claims about the user for its id_tokens, separated by commas, if it does not call userinfo;"
        " users consent to the scopes as before.",
    ),
]
RolesClaim = Annotated[
    bool, typer.Option("--roles-claim", help="Name the roles of the user in its access tokens.")
]
RequirePAR = Annotated[bool, typer.Option("--require-par", help="Accept pushed authorization requests only.")]

NewName = Annotated[str | None, typer.Option("--name", help="Another display name; users consent again.")]
NewScope = Annotated[
    str | None, typer.Option("--scope", help="All scopes that it may have from now on, separated by spaces.")
]
AddScope = Annotated[str, typer.Option(help="Scopes to grant as well.")]
RemoveScope = Annotated[str, typer.Option(help="Scopes to take away.")]
NewGrants = Annotated[
    list[GrantType] | None,
    typer.Option(
        "--grant", metavar="NAME", help="A grant that it may use; repeatable, and no other is left."
    ),
]
NewTrusted = Annotated[
    bool | None, typer.Option("--trusted/--not-trusted", help="Whether users are not asked for consent.")
]
NewPKCE = Annotated[
    bool | None, typer.Option("--pkce/--no-pkce", help="Whether sign-ins without PKCE are refused.")
]
NewRequirePAR = Annotated[
    bool | None,
    typer.Option("--require-par/--no-require-par", help="Whether authorization requests must be pushed."),
]
NewIdTokenClaims = Annotated[
    str | None,
    typer.Option(
        "--id-token-claims",
        metavar="NAMES",
        help="Claims about the user for its id_tokens, separated by commas.",
    ),
]
NewRolesClaim = Annotated[
    bool | None,
    typer.Option("--roles-claim/--no-roles-claim", help="Whether access tokens name the roles of the user."),
]
EndSessions = Annotated[
    bool,
    typer.Option("--end-sessions", help="End the sessions that hold more than the client may have now."),
]
