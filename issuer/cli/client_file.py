"""`issuer clients add --from FILE`: registers the clients that a deployment keeps in a file.

What the file means is decided in `administration.client_file`, what it changes in `administration.client_plan`.
"""

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from issuer.administration.client_changes import narrows
from issuer.administration.client_sessions import count_exceeding
from issuer.cli.client_view import holding_more, span_of, wait_for_caches
from issuer.cli.output import Access, CommandError, opened, show
from issuer.cli.private_keys import require_file
from issuer.cli.streams import require_output
from issuer.cli.tables import Row
from issuer.cli.terminal import complain
from issuer.services import Issuer
from issuer.strict_json import BadDocument

if TYPE_CHECKING:
    from issuer.administration.client_plan import PlannedClient
    from issuer.administration.client_sync import ClientSync

FILE_MOST_BYTES = 16 * 1024 * 1024
FILE_OPTIONS = frozenset({"file", "prune", "overlap", "yes", "dry_run", "as_json"})
"""The parameters of `add` that go with --from."""
SHOWN_MOST = 20
_GIVEN = "COMMANDLINE"


def require_only(context: typer.Context, names: Collection[str]) -> None:
    """Raise BadParameter if another parameter was given than those with these names."""
    refuse(
        context, context.params.keys() - set(names), "cannot be given with --from: the file has all values"
    )


def refuse(context: typer.Context, names: Collection[str], reason: str) -> None:
    """Raise BadParameter if a parameter with one of the names was given."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name in names else None
        if source is not None and source.name == _GIVEN:
            raise typer.BadParameter(f"{parameter.opts[0]} {reason}")


def register_file(path: Path, overlap: str, *, prune: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Register the clients of a file; print what is added, changed and deleted."""
    span = span_of(overlap)
    content = _content(path)
    require_output()
    with _named(path), opened(Access.READ if dry_run else Access.MAKE) as issuer:
        sync = _sync(issuer, path, content, span, prune=prune)
        if dry_run:
            plan = sync.preview()
        else:
            plan = sync.perform(_confirmed(sync, yes=yes) if prune else None)
            if any(each.before for each in plan):
                wait_for_caches(as_json=as_json)
            sync.remove_leftovers(plan, issuer.clock())
        written = sync.secrets_file if any(each.secret for each in plan) else None
        exceeding = {each.client.id: _exceeding(issuer, each) for each in plan}
        show(
            {
                "changes": [_document(each, exceeding[each.client.id]) for each in plan],
                "secrets_file": str(written) if written else None,
                "dry_run": dry_run,
            },
            as_json=as_json,
            rows=[row for each in plan for row in _rows(each)],
            message=_report(plan, len(sync.file.clients), exceeding, written, dry_run=dry_run),
        )


def _exceeding(issuer: Issuer, planned: "PlannedClient") -> int:
    """Return how many sessions of a client hold more than it may have after the change."""
    before, after = planned.before, planned.client
    if before is None or not narrows(before, after):
        return 0
    return count_exceeding(issuer.database, after, before, issuer.clients.entitlements, issuer.clock())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in the error for what is in it."""
    try:
        yield
    except BadDocument as error:
        raise CommandError(f"{path}: {error}") from None


def _content(path: Path) -> bytes:
    require_file(path)
    if path.stat().st_size > FILE_MOST_BYTES:
        raise CommandError(f"the file has more than {FILE_MOST_BYTES} bytes: {path}")
    return path.read_bytes()


def _sync(issuer: Issuer, path: Path, content: bytes, overlap: timedelta, *, prune: bool) -> "ClientSync":
    # PyYAML takes a tenth of a second, and no other command needs it.
    from issuer.administration.client_file import read_clients  # noqa: PLC0415
    from issuer.administration.client_sync import ClientSync, spelled  # noqa: PLC0415

    now, is_json = issuer.clock(), path.suffix.lower() == ".json"
    file = spelled(
        read_clients(content, issuer.settings.audience, now, is_json=is_json), issuer.clients.resources
    )
    secrets = path.parent / file.secrets_file if file.secrets_file else None
    return ClientSync(issuer.database, file, secrets, now, overlap, prune, issuer.actor)


def _confirmed(sync: "ClientSync", *, yes: bool) -> list[str] | None:
    """Return the ids of the clients that may be deleted, after asking; None if nothing has to be asked."""
    if yes:
        return None
    deleted = [each.client for each in sync.preview() if each.step == "delete"]
    if not deleted:
        return []
    for client in deleted[:SHOWN_MOST]:
        complain("note", f"not in the file: {client.id} {client.name}")
    if len(deleted) > SHOWN_MOST:
        complain("note", f"and {len(deleted) - SHOWN_MOST} more")
    if not sys.stdin.isatty():
        raise CommandError("--prune asks for confirmation; give --yes in scripts")
    if typer.prompt(f"Type {len(deleted)} to delete {_counted(len(deleted))}", err=True) != str(len(deleted)):
        raise CommandError("that is another number; nothing was changed")
    return [client.id for client in deleted]


def _document(planned: "PlannedClient", exceeding: int) -> dict[str, object]:
    return {
        "step": planned.step.value,
        "client_id": planned.client.id,
        "name": planned.client.name,
        "fields": [vars(each) for each in planned.differences],
        "sessions_holding_more": exceeding,
    }


def _rows(planned: "PlannedClient") -> Sequence[Row]:
    known = {"step": planned.step.value, "client": planned.client.name}
    fields = [vars(each) for each in planned.differences]
    if planned.step == "add":
        fields.insert(0, {"field": "client_id", "before": "", "after": planned.client.id})
    elif not fields:
        fields = [{"field": "client_id", "before": planned.client.id, "after": ""}]
    return [{**known, **each} for each in fields]


def _report(
    plan: Sequence["PlannedClient"],
    declared: int,
    exceeding: Mapping[str, int],
    written: Path | None,
    *,
    dry_run: bool,
) -> str:
    if not plan:
        return f"{_counted(declared)} in the file: registered as declared"
    steps = Counter(each.step.value for each in plan)
    counts = ", ".join(f"{step}: {count}" for step, count in steps.items())
    lines = [f"{'would ' if dry_run else ''}{counts}"]
    for each in plan:
        if sessions := exceeding[each.client.id]:
            ended_by = f"issuer clients set {each.client.id} --end-sessions"
            lines.append(f"{each.client.name}: {holding_more(sessions, ended_by)}")
    if written:
        lines.append(
            f"new secrets {'would be' if dry_run else 'are'} in {written}: hand them over, and delete it"
        )
    return "\n".join(lines)


def _counted(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"
