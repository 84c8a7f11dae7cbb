"""What registering the clients of a file changes, as a pure function of the file and of what is registered."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from issuer.administration.client_changes import Difference, differences
from issuer.administration.client_file import ClientFile, DeclaredClient
from issuer.clients.client import SECRET_METHODS, Client
from issuer.clock import instant
from issuer.errors import Refused
from issuer.strict_json import BadDocument


class Step(StrEnum):
    """What is done with a client."""

    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True)
class PlannedClient:
    """A client that is not as the file declares it."""

    step: Step
    client: Client
    """As it will be; as it is, if it is deleted."""
    before: Client | None = None
    secret: str | None = field(default=None, repr=False)
    """Its new secret, to be written to a file."""

    @property
    def differences(self) -> list[Difference]:
        """What differs; nothing for a client that is deleted."""
        return [] if self.step is Step.DELETE else differences(self.before, self.client)


def planned(
    file: ClientFile,
    registered: Collection[Client],
    used_ids: Collection[str],
    now: datetime,
    *,
    overlap: timedelta,
    prune: bool,
) -> list[PlannedClient]:
    """Return what has to be done, in the order of the file; replaced secrets stay valid for `overlap`.

    `registered` holds at least the clients that the file names, and with `prune` every one: those that the file does
    not name are deleted. `used_ids` are ids of accounts and of clients that were deleted.

    Raise BadDocument for a client that cannot be registered, Refused for a secret that must not be replaced yet.
    """
    ids = {client.id: client for client in registered}
    names: dict[str, list[Client]] = {}
    for client in registered:
        names.setdefault(client.name, []).append(client)
    found = [(each, _known(each, ids, names)) for each in file.clients]
    _require_distinct(found)
    plan = [
        each for declared, before in found if (each := _step(declared, before, file, used_ids, now, overlap))
    ]
    if prune:
        if not file.clients:
            raise BadDocument("it names no client, so that --prune would delete every one")
        kept = {before.id for _, before in found if before}
        plan += [PlannedClient(Step.DELETE, each, each) for each in registered if each.id not in kept]
    return plan


def _known(
    declared: DeclaredClient, ids: Mapping[str, Client], names: Mapping[str, list[Client]]
) -> Client | None:
    """Return the registered client that is meant: by its id, or by its name if the file has no id."""
    if declared.has_id:
        return ids.get(declared.client.id)
    same = names.get(declared.client.name, [])
    if len(same) > 1:
        raise declared.place.refused(
            f"{len(same)} registered clients have the name {declared.client.name!r}; give its client_id"
        )
    return same[0] if same else None


def _require_distinct(found: Iterable[tuple[DeclaredClient, Client | None]]) -> None:
    """Raise BadDocument for a client that is meant twice, once by its id and once by its name."""
    seen: set[str] = set()
    for declared, before in found:
        if before and before.id in seen:
            raise declared.place.refused(f"another client in the file is {before.id} already")
        if before:
            seen.add(before.id)


def _step(
    declared: DeclaredClient,
    before: Client | None,
    file: ClientFile,
    used_ids: Collection[str],
    now: datetime,
    overlap: timedelta,
) -> PlannedClient | None:
    if before is None:
        if declared.client.id in used_ids:
            raise declared.place.refused(
                f"an account or a deleted client has the client_id {declared.client.id}: no id is used again"
            )
        _require_secrets_file(declared, file)
        return PlannedClient(Step.ADD, declared.client, secret=declared.secret)
    wanted = _wanted(declared, before)
    needs_secret = wanted.auth_method in SECRET_METHODS and before.secret_digest is None
    secret = declared.secret if needs_secret else None
    if secret:
        _require_secrets_file(declared, file)
    if (needs_secret or declared.has_hash) and declared.client.secret_digest:
        wanted = _with_digest(wanted, declared.client.secret_digest, now, overlap)
    elif wanted.auth_method not in SECRET_METHODS:
        wanted = replace(wanted, secret_digest=None, old_secret_digest=None, old_secret_until=None)
    return None if wanted == before else PlannedClient(Step.CHANGE, wanted, before, secret)


def _wanted(declared: DeclaredClient, before: Client) -> Client:
    """Return a registered client as the file declares it, with the secrets that it has.

    PKCE stays required of a client that has used it: a request without it is an attack.
    """
    return replace(
        declared.client,
        id=before.id,
        created_at=before.created_at,
        disabled_at=before.disabled_at,
        refresh_removed_at=before.refresh_removed_at,
        secret_digest=before.secret_digest,
        old_secret_digest=before.old_secret_digest,
        old_secret_until=before.old_secret_until,
        requires_pkce=declared.client.requires_pkce or before.requires_pkce,
    )


def _with_digest(client: Client, digest: bytes, now: datetime, overlap: timedelta) -> Client:
    if client.secret_digest == digest:
        is_leaked = not overlap and client.old_secret_digest is not None
        return replace(client, old_secret_digest=None, old_secret_until=None) if is_leaked else client
    if overlap and client.old_secret_until and client.old_secret_until > now:
        raise Refused(
            f"the secret of {client.name} was replaced, and the one before is valid until"
            f" {instant(client.old_secret_until)}; --overlap 0 makes all previous secrets invalid at once",
            client.old_secret_until,
        )
    return client.with_secret_digest(digest, now, overlap)


def _require_secrets_file(declared: DeclaredClient, file: ClientFile) -> None:
    if declared.secret is not None and file.secrets_file is None:
        raise declared.place.refused(
            "needs secret_sha256; or the file needs secrets_file, where its new secret is written"
        )


def new_secrets(plan: Iterable[PlannedClient]) -> Iterator[tuple[Client, str]]:
    """Yield the clients with a new secret, which is not stored."""
    for each in plan:
        if each.secret is not None:
            yield each.client, each.secret
