"""`issuer users`: creates, lists, describes, grants, disables and enables accounts; `user_import` imports them."""

import sys
from typing import Annotated

import typer

from issuer.accounts.profile import require_profile
from issuer.accounts.registration import register_user
from issuer.accounts.user import User, require_username
from issuer.administration.clients import require_scope
from issuer.administration.reset_links import LINK_LIFETIME
from issuer.administration.users import change_profile, disable_user, enable_user, set_password
from issuer.cli import invite, user_import
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.streams import require_output
from issuer.cli.tables import Row
from issuer.clock import instant
from issuer.oauth import format_scope
from issuer.services import Issuer

app = typer.Typer(help="Manage user accounts.", no_args_is_help=True)

LINE_MOST_BYTES = 64 * 1024
HIDDEN = ("id", "name", "email", "email_verified", "invited_at", "updated_at")
"""Columns of JSON that tables do not have."""
Username = Annotated[str, typer.Argument(help="The username.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]

FullName = Annotated[str | None, typer.Option("--name", help="The full name, for applications.")]
Email = Annotated[str | None, typer.Option(help="The e-mail address, for applications.")]

app.command("import")(user_import.import_users)
app.command("invite")(invite.invite)


@app.command()
def add(
    username: Username,
    *,
    scope: Annotated[str, typer.Option(help="The scopes to grant, separated by spaces.")] = "",
    name: FullName = None,
    email: Email = None,
    email_verified: Annotated[
        bool, typer.Option("--email-verified", help="The address is known to be the user's.")
    ] = False,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Create an account."""
    with misuse():
        granted, username = require_scope(scope), require_username(username)
        profile = require_profile(name, email, email_verified=email_verified)
    password = _password(stdin=password_stdin)
    with opened() as issuer:
        accounts, now = issuer.accounts, issuer.clock()
        user = register_user(accounts.store, accounts.passwords, username, password, now, granted, profile)
        _show(user, as_json=as_json, message="created")


@app.command("list")
def list_users(*, as_json: Json = False) -> None:
    """List all accounts."""
    with opened(Access.READ) as issuer:
        accounts, damaged = issuer.accounts.store.all()
        rows = [_row(user) for user in accounts]
        show(
            {"users": rows},
            as_json=as_json,
            rows=rows,
            hidden=HIDDEN,
            message="" if rows else "no accounts yet",
            damaged=damaged,
        )


@app.command()
def grant(
    username: Username,
    *,
    scope: Annotated[str, typer.Option(help="The scopes to grant, separated by spaces.")],
    only: Annotated[bool, typer.Option("--only", help="Remove every other scope.")] = False,
    as_json: Json = False,
) -> None:
    """Grant a user more scopes, or with --only exactly these; tokens already issued keep theirs until they expire."""
    with misuse():
        wanted = require_scope(scope)
    if not wanted and not only:
        raise typer.BadParameter("--scope is empty; to remove every scope, add --only")
    with opened(Access.CHANGE) as issuer:
        user = _find(issuer, username)
        issuer.accounts.store.set_scope(user.id, wanted if only else user.scope | wanted)
        _show(_find(issuer, username), as_json=as_json, message="granted")


@app.command("set-profile")
def set_user_profile(
    username: Username,
    *,
    name: FullName = None,
    email: Email = None,
    email_verified: Annotated[
        bool | None,
        typer.Option(
            "--email-verified/--no-email-verified", help="Whether the address is known to be the user's."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change name or e-mail address; an empty text removes it. A changed address counts as not verified."""
    if name is None and email is None and email_verified is None:
        raise typer.BadParameter("nothing to change: give --name, --email or --email-verified")
    with misuse():
        require_profile(name, email)
    with opened(Access.CHANGE) as issuer:
        user = _find(issuer, username)
        user = change_profile(
            issuer.accounts.store,
            user,
            issuer.clock(),
            name=name,
            email=email,
            email_verified=email_verified,
        )
        _show(user, as_json=as_json, message="profile changed")


@app.command("set-password")
def set_user_password(
    username: Username, *, password_stdin: PasswordStdin = False, as_json: Json = False
) -> None:
    """Change a password; all sessions of the user end."""
    password = _password(stdin=password_stdin)
    with opened(Access.CHANGE) as issuer:
        user = _find(issuer, username)
        set_password(issuer.tokens.families, issuer.accounts.passwords, user, password, issuer.clock())
        issuer.administration.mails.password_changed(user, issuer.clock())
        _show(user, as_json=as_json, message="password changed; all sessions ended")


@app.command("reset-link")
def make_reset_link(username: Username, *, as_json: Json = False) -> None:
    """Print a link with which the user chooses a new password: valid for an hour, once."""
    require_output()
    with opened(Access.CHANGE) as issuer:
        user, now = _find(issuer, username), issuer.clock()
        if user.disabled_at is not None:
            raise CommandError(f"{user.username} is disabled; see: issuer users enable {user.username}")
        link = f"{issuer.settings.url}/reset?token={issuer.administration.reset_links.token(user, now)}"
        until = instant(now + LINK_LIFETIME)
        show({"link": link, "expires_at": until}, as_json=as_json, rows=[], message=link)


@app.command()
def disable(username: Username, *, as_json: Json = False) -> None:
    """Disable an account: no log-in, no refresh. Access tokens already issued stay valid until they expire."""
    with opened(Access.CHANGE) as issuer:
        user = disable_user(issuer.tokens.families, _find(issuer, username), issuer.clock())
        _show(user, as_json=as_json, message="disabled; all sessions ended")


@app.command()
def enable(username: Username, *, as_json: Json = False) -> None:
    """Enable a disabled account again."""
    with opened(Access.CHANGE) as issuer:
        user = enable_user(issuer.accounts.store, _find(issuer, username))
        _show(user, as_json=as_json, message="enabled")


def _password(*, stdin: bool) -> str:
    if stdin:
        return _first_line()
    if not sys.stdin.isatty():
        raise CommandError("no terminal to ask for the password; give --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _first_line() -> str:
    """Return the first line of standard input as UTF-8 in every locale, as /login reads passwords."""
    line = sys.stdin.buffer.readline(LINE_MOST_BYTES)
    if not line:
        raise CommandError("no password on standard input")
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("the password on standard input is not UTF-8") from None


def _find(issuer: Issuer, username: str) -> User:
    user = issuer.accounts.store.by_username(username)
    if user is None:
        raise CommandError(f"no such user: {username!r}; see: issuer users list")
    return user


def _row(user: User) -> Row:
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "email_verified": user.email_verified,
        "scope": format_scope(user.scope),
        "invited_at": instant(user.invited_at) if user.invited_at else None,
        "updated_at": instant(user.updated_at) if user.updated_at else None,
        "created_at": instant(user.created_at),
        "disabled_at": instant(user.disabled_at) if user.disabled_at else None,
    }


def _show(user: User, *, as_json: bool, message: str) -> None:
    row = _row(user)
    show(row, as_json=as_json, rows=[row], hidden=HIDDEN, message=f"{user.username}: {message}")
