"""`issuer users`: creates, lists, describes, disables and enables accounts.

What is active of one user is in `user_state`, scopes and roles in `user_permissions`; `user_import` imports users,
`user_deletion` deletes them.
"""

import shlex
import sys
from typing import Annotated

import typer

from issuer.accounts.freed_names import UsernameReserved
from issuer.accounts.listing import PAGE, PAGE_MOST, page, require_searchable
from issuer.accounts.profile import require_profile
from issuer.accounts.registration import register_user
from issuer.accounts.user import require_username
from issuer.administration.clients import require_scope
from issuer.administration.reset_links import LINK_LIFETIME
from issuer.administration.users import change_profile, disable_user, enable_user, set_password
from issuer.audit.event import EventAction
from issuer.cli import invite, user_deletion, user_import, user_permissions, user_state
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.streams import require_output
from issuer.cli.user_view import HIDDEN, Username, find_user, show_user, user_document, user_row
from issuer.clock import instant

app = typer.Typer(help="Manage user accounts.", no_args_is_help=True)

LINE_MOST_BYTES = 64 * 1024
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
        try:
            user = register_user(
                accounts.store, accounts.passwords, username, password, now, granted, profile, issuer.actor
            )
        except UsernameReserved as error:
            raise CommandError(error.reason) from None
        show_user(user, as_json=as_json, message="created")


@app.command("list")
def list_users(
    *,
    like: Annotated[
        str, typer.Option(metavar="TEXT", help="Only users whose names begin with this, in any case.")
    ] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Only users who are disabled.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=PAGE_MOST, metavar="NUMBER", help="How many users to list.")
    ] = PAGE,
    after: Annotated[
        str, typer.Option(metavar="NAME", help="Begin after this name: the last one of the page before.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List accounts in the order of their names."""
    with misuse():
        for text in (like, after):
            require_searchable(text)
    with opened(Access.READ) as issuer:
        found = page(issuer.database, like, is_disabled=disabled, after=after, limit=limit)
        none = "no such accounts" if like or disabled or after else "no accounts yet"
        more = f"there are more: --after {shlex.quote(found.after)}" if found.after else ""
        show(
            {"users": list(map(user_document, found.users)), "after": found.after},
            as_json=as_json,
            rows=list(map(user_row, found.users)),
            hidden=HIDDEN,
            message=more if found.users or found.damaged else none,
            damaged=found.damaged,
        )


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
        user = find_user(issuer, username)
        user = change_profile(
            issuer.accounts.store,
            issuer.administration.mails,
            user,
            issuer.clock(),
            issuer.event(EventAction.PROFILE_CHANGED, user_id=user.id),
            name=name,
            email=email,
            email_verified=email_verified,
        )
        show_user(user, as_json=as_json, message="profile changed")


@app.command("set-password")
def set_user_password(
    username: Username, *, password_stdin: PasswordStdin = False, as_json: Json = False
) -> None:
    """Change a password; all sessions of the user end."""
    password = _password(stdin=password_stdin)
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.PASSWORD_CHANGED, user_id=user.id)
        set_password(issuer.tokens.families, issuer.accounts.passwords, user, password, issuer.clock(), event)
        issuer.administration.mails.password_changed(user, issuer.clock())
        show_user(user, as_json=as_json, message="password changed; all sessions ended")


@app.command("reset-link")
def make_reset_link(username: Username, *, as_json: Json = False) -> None:
    """Print a link with which the user chooses a new password: valid for an hour, once."""
    require_output()
    with opened(Access.CHANGE) as issuer:
        user, now = find_user(issuer, username), issuer.clock()
        if user.disabled_at is not None:
            raise CommandError(f"{user.username} is disabled; see: issuer users enable {user.username}")
        link = f"{issuer.settings.url}/reset?token={issuer.administration.reset_links.token(user, now)}"
        until = instant(now + LINK_LIFETIME)
        issuer.events.store.record(issuer.event(EventAction.RESET_LINK_MADE, user_id=user.id))
        show({"link": link, "expires_at": until}, as_json=as_json, rows=[], message=link)


@app.command()
def disable(username: Username, *, as_json: Json = False) -> None:
    """Disable an account: no log-in, no refresh. Access tokens already issued stay valid until they expire."""
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.USER_DISABLED, user_id=user.id)
        user = disable_user(issuer.tokens.families, user, issuer.clock(), event)
        show_user(user, as_json=as_json, message="disabled; all sessions ended")


@app.command()
def enable(username: Username, *, as_json: Json = False) -> None:
    """Enable a disabled account again."""
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.USER_ENABLED, user_id=user.id)
        user = enable_user(issuer.accounts.store, user, event)
        show_user(user, as_json=as_json, message="enabled")


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


app.command("invite")(invite.invite)
app.command("show")(user_state.show_one)
app.command("sessions")(user_state.sessions)
app.command("unlock")(user_state.unlock)
app.command("grant")(user_permissions.grant)
app.command("revoke-scope")(user_permissions.withdraw_scope)
app.command("revoke-role")(user_permissions.withdraw_role)
app.command("set")(user_permissions.set_values)
app.command("delete")(user_deletion.delete)
