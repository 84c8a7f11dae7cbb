"""The options of `issuer clients add`: names and help.

What is accepted is decided in `administration.clients`.
"""

from pathlib import Path
from typing import Annotated

import typer

from issuer.oauth import AuthMethod, GrantType

Name = Annotated[str, typer.Argument(help="A display name.")]
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
        help="Claims about the user for its id_tokens, separated by commas: for applications that ask no userinfo;"
        " users consent to the scopes as before.",
    ),
]
RolesClaim = Annotated[
    bool, typer.Option("--roles-claim", help="Name the roles of the user in its access tokens.")
]
RequirePAR = Annotated[bool, typer.Option("--require-par", help="Accept pushed authorization requests only.")]
