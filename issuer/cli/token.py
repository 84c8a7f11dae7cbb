"""`issuer token inspect`: shows what is in an access token, and whether it is valid, with the reason.

Decoding and the rules are left to `tokens.inspection`, finding the keys to `tokens.published_keys`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from issuer.cli.output import CommandError, Exit, Json, misuse, show
from issuer.cli.tables import draw_members
from issuer.cli.terminal import console, status, style_of
from issuer.clients.document_fetch import DocumentFetcher
from issuer.clients.key_sets import ClientKey
from issuer.clock import instant, system_clock
from issuer.settings.loading import load_settings
from issuer.tokens.inspection import (
    DecodedToken,
    Invalid,
    decode,
    in_words,
    require_header,
    require_valid,
)
from issuer.tokens.published_keys import KeysNotFound, find_published_keys
from issuer.urls import issuer_url, resource

STDIN = "-"
STDIN_MOST_BYTES = 64 * 1024
VALID, INVALID, NOT_VERIFIED = "valid", "invalid", "NOT VERIFIED"
# A refresh token may begin with a dash, and what is not understood as an option is printed in an error.
TOKEN = {"ignore_unknown_options": True, "allow_extra_args": True}

app = typer.Typer(help="Look into access tokens.", no_args_is_help=True)


TokenArgument = Annotated[
    str,
    typer.Argument(
        metavar="TOKEN",
        help="The token; - or nothing reads it from standard input, which keeps it out of the list of processes.",
        show_default=False,
    ),
]
Audience = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The URL that must be in aud; without it aud is not compared."),
]
IssuerURL = Annotated[
    str | None, typer.Option(metavar="URL", help="The issuer whose keys to use, instead of ISSUER_URL.")
]


@dataclass(frozen=True)
class Finding:
    """What was found out about a token; `decoded` is None if it has no contents to show."""

    decoded: DecodedToken | None
    verdict: str
    reason: str


@app.command("inspect", context_settings=TOKEN)
def inspect_token(
    context: typer.Context,
    token: TokenArgument = STDIN,
    *,
    audience: Audience = None,
    issuer: IssuerURL = None,
    as_json: Json = False,
) -> None:
    """Show the header and the claims of an access token, and whether it is valid, with the reason.

    The keys are fetched from the issuer by discovery, as any service does it. Exit 1 if the token is not valid or
    could not be verified. exp is compared without leeway; services may allow a few seconds. The token itself is not
    printed.
    """
    settings = load_settings()
    with misuse():
        url = settings.url if issuer is None else issuer_url(issuer)
        expected = None if audience is None else resource(audience)
    text = _text([token, *context.args])
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    fetcher = DocumentFetcher(settings.trusted_authorities(), proxy)

    def published() -> list[ClientKey]:
        with status(f"fetching the keys of {url}", as_json=as_json):
            return find_published_keys(url, fetcher.fetch)

    now = system_clock()
    finding = _inspected(text, published, url, expected, now)
    _show(finding, now, as_json=as_json)
    if finding.verdict != VALID:
        raise typer.Exit(Exit.FAILED)


def _inspected(
    text: str, published: Callable[[], list[ClientKey]], issuer: str, audience: str | None, now: datetime
) -> Finding:
    decoded = None
    try:
        decoded = decode(text)
        require_header(decoded)
        require_valid(decoded, published(), issuer, audience, now)
    except Invalid as error:
        return Finding(decoded, INVALID, str(error))
    except KeysNotFound as error:
        return Finding(decoded, NOT_VERIFIED, f"{error}; anyone may have written these claims")
    more = "" if audience else "; aud was not compared (--audience URL)"
    return Finding(decoded, VALID, f"signed by a key of {issuer}{more}")


def _text(words: list[str]) -> str:
    """Return the token of the arguments or of standard input; no error shows any of it."""
    *scheme, last = words
    if scheme and (len(scheme) > 1 or scheme[0].lower() != "bearer"):
        raise typer.BadParameter("give one token, or - for standard input")
    if last.startswith("--"):
        raise typer.BadParameter("no such option; give a token that begins with dashes on standard input")
    text = last if last != STDIN else _read_stdin()
    if not text.strip():
        raise CommandError("the token is empty; give one as the argument or on standard input")
    first, *rest = text.split(maxsplit=1)
    return rest[0].strip() if rest and first.lower() == "bearer" else text.strip()


def _read_stdin() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Token", hide_input=True, err=True))
    return sys.stdin.buffer.read(STDIN_MOST_BYTES).decode("utf-8", "replace")


def _show(finding: Finding, now: datetime, *, as_json: bool) -> None:
    decoded, verdict = finding.decoded, finding.verdict
    document = {
        "verdict": verdict.lower(),
        "reason": finding.reason,
        "header": decoded and decoded.header,
        "claims": decoded and decoded.claims,
        "instants": {name: instant(when) for name, when in decoded.instants.items()} if decoded else None,
    }
    if as_json:
        show(document, as_json=True)
        return
    terminal = console()
    if decoded:
        terminal.print(Text("header", "bold"))
        draw_members(_escaped(decoded.header), terminal)
        warning = (f", {NOT_VERIFIED}", style_of(NOT_VERIFIED)) if verdict == NOT_VERIFIED else ""
        terminal.print(Text.assemble(("\nclaims", "bold"), warning))
        draw_members(_escaped(decoded.claims, _in_words(decoded, now)), terminal)
        terminal.print()
    mark = "✓" if verdict == VALID else "✗"
    terminal.print(Text.assemble((f"{mark} {verdict}", style_of(verdict)), f": {_printable(finding.reason)}"))
    sys.stdout.flush()


def _in_words(decoded: DecodedToken, now: datetime) -> dict[str, str]:
    """Return the instants of a token in words, by claim."""
    words = {}
    for name, when in decoded.instants.items():
        span = in_words(abs(when - now))
        if name == "exp":
            relative = f"expires in {span}" if when > now else f"expired {span} ago"
        else:
            relative = f"in {span}" if when > now else f"{span} ago"
        words[name] = f"  {instant(when)}, {relative}"
    return words


def _escaped(members: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return members of JSON as text in which control characters are escaped."""
    notes = notes or {}
    return {
        _printable(name): _printable(json.dumps(value, ensure_ascii=False)) + notes.get(name, "")
        for name, value in members.items()
    }


def _printable(text: str) -> str:
    """Return `text` with the characters that a terminal might obey as JSON escapes them."""
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
