"""The tree of commands; each branch is a sibling module."""

import inspect
import sys
from importlib import metadata
from typing import Annotated

import typer

from issuer.cli import audit, check, clients, demo, keys, move, serve, streams, users
from issuer.cli.output import CommandError, Exit, fail
from issuer.logs import configure_log

app = typer.Typer(
    name="issuer",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=False,
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
app.add_typer(clients.app, name="clients")


def _join_lines(commands: typer.Typer) -> None:
    """Let the terminal break the lines of each paragraph of help, which are broken as the code's lines are."""
    for each in commands.registered_commands:
        paragraphs = (inspect.getdoc(each.callback) or "").split("\n\n")
        each.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance:
            _join_lines(group.typer_instance)


_join_lines(app)


def run() -> None:
    """Run a command; exit 0 done, 1 failed, 2 usage, 3 refused by a guard, 4 nothing to do.

    The standard streams must have been prepared, see `streams`.
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
        app()
    except SystemExit as ended:
        return ended.code
    except streams.OutputLost:
        raise
    except Exception as error:  # noqa: BLE001 - `fail` raises what it does not know
        return fail(error, as_json=as_json)
    return Exit.DONE


def _require_text(arguments: list[str]) -> None:
    if not all(argument.isprintable() for argument in arguments):
        raise CommandError("an argument holds control characters or is not UTF-8")
