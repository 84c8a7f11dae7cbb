"""Options of commands on clients that name key sets.

Which keys can be used is decided in `clients.key_sets`.
"""

import json
from pathlib import Path

import typer

from issuer.cli.output import CommandError
from issuer.cli.private_keys import content_of
from issuer.clients.key_sets import read_key_set
from issuer.clients.outgoing_http import is_reachable
from issuer.oauth import AuthMethod
from issuer.strict_json import read_document


def key_set_of(auth: AuthMethod, jwks: Path | None, jwks_uri: str | None) -> str | None:
    """Return the JWKS in the file, if any; raise BadParameter or CommandError for options that contradict."""
    given = [each for each in (jwks, jwks_uri) if each is not None]
    if len(given) != (auth is AuthMethod.PRIVATE_KEY_JWT):
        raise typer.BadParameter(
            "--auth private_key_jwt needs --jwks or --jwks-uri, and nothing else takes them"
        )
    if jwks_uri is not None:
        require_jwks_uri(jwks_uri)
    return None if jwks is None else read_jwks(jwks)


def read_jwks(jwks: Path) -> str:
    """Return the JWKS in a file; raise CommandError."""
    try:
        document = read_document(content_of(jwks))
        read_key_set(document)
    except (OSError, ValueError) as error:
        raise CommandError(f"the key set in {jwks} cannot be used: {error}") from error
    return json.dumps(document)


def require_jwks_uri(jwks_uri: str) -> None:
    """Raise BadParameter for a URL that no key set is fetched from."""
    if not is_reachable(jwks_uri):
        raise typer.BadParameter("--jwks-uri must be an https URL (http on loopback), without a fragment")
