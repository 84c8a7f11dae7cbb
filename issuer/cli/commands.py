"""The command line `issuer`: the tree of commands, each a sibling module, and their errors."""

import inspect
import sys
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import TyperException

from issuer.cli import audit, check, clients, demo, keys, move, resources, roles, serve, streams, token, users
from issuer.cli.output import Exit, fail, fail_usage
from issuer.logs import configure_log

app = typer.Typer(
    name="issuer",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # its columns cut long options off
)


@app.callback()
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False
) -> None:
    """Run and operate an issuer of access tokens (JWT) with a rotating key ring."""
    if version:
        typer.echo(metadata.version("jwks-issuer"))
        raise typer.Exit


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("move")(move.move)
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(users.app, name="users")
app.add_typer(roles.app, name="roles")
app.add_typer(clients.app, name="clients")
app.add_typer(resources.app, name="resources")
app.add_typer(token.app, name="token")


def _use_full_summaries(commands: typer.Typer) -> None:
    """Make lists of commands show the full first paragraph of each help text."""
    for each in commands.registered_commands:
        first, _, _ = (inspect.getdoc(each.callback) or "").partition("\n\n")
        each.short_help = " ".join(first.split())
    for group in commands.registered_groups:
        if group.typer_instance:
            _use_full_summaries(group.typer_instance)


_use_full_summaries(app)


def run() -> None:
    """Run a command; exit 0 done, 1 failed, 2 usage, 3 refused by a guard, 4 nothing to do, 130 interrupted.

    Requires `streams.prepare`.
    """
    configure_log()
    as_json = "--json" in sys.argv
    code: int | str | None
    try:
        code = _run(as_json=as_json)
    except streams.OutputLost as lost:
        code = fail(lost, as_json=False)
    sys.exit(streams.finish(code))


def _run(*, as_json: bool) -> int | str | None:
    """Return the exit code of the command that the arguments name; raise OutputLost."""
    try:
        _require_text(sys.argv)
        return app(standalone_mode=False) or Exit.DONE
    except TyperException as error:
        return fail_usage(error, as_json=as_json)
    except typer.Abort as ended:
        sys.stderr.write("cancelled; nothing was done\n")
        return Exit.INTERRUPTED if isinstance(ended.__context__, KeyboardInterrupt) else Exit.FAILED
    except SystemExit as ended:
        return ended.code
    except streams.OutputLost:
        raise
    except Exception as error:  # noqa: BLE001 - `fail` raises what it does not know
        return fail(error, as_json=as_json)


def _require_text(arguments: list[str]) -> None:
    if not all(argument.isprintable() for argument in arguments):
        raise typer.BadParameter("an argument holds control characters or is not UTF-8")
