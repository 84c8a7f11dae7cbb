"""`issuer keys recover`: restores the key ring from its checkpoint beside the private keys."""

from typing import Annotated

import typer

from issuer.cli.output import Access, Json, opened
from issuer.cli.ring_view import require_reason, show_ring

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and change nothing.")]
Reason = Annotated[str, typer.Option(help="The reason, kept in the audit log.")]
Force = Annotated[
    bool, typer.Option("--force", help="Proceed even if the private keys that would sign cannot be opened.")
]


def recover(*, reason: Reason, dry_run: DryRun = False, force: Force = False, as_json: Json = False) -> None:
    """Restore the key ring from its checkpoint with the private keys, after an older database backup was restored.

    Keys revoked since the backup are revoked again, and keys made since are published again, so their tokens stay
    valid. Nothing to do (exit 4) if the database is as new as the keys.
    """
    require_reason(reason)
    # Where the database is lost as well, the ring is restored in a new one.
    with opened(Access.READ if dry_run else Access.MAKE) as issuer:
        recovery = issuer.keys.recovery
        ring = (
            recovery.preview(skip_open_check=force)
            if dry_run
            else recovery.recover(reason, skip_open_check=force)
        )
        revoked = sum(key.revoked_at is not None for key in ring.keys)
        does = "would be" if dry_run else "is"
        lines = [
            f"the key ring {does} at version {ring.version}, of {len(ring.keys)} keys {revoked} revoked",
            "running nodes follow within 2 seconds; nodes that refused to start can be started now",
            "accounts, clients and sessions are as old as the backup: see docs/backup.md",
        ]
        show_ring(issuer, ring, as_json=as_json, lines=lines, dry_run=dry_run)
