"""`issuer keys recover`: put the key ring back as its private keys know it, after an older database was restored."""

from typing import Annotated

import typer

from issuer.cli.output import Access, Json, opened
from issuer.cli.ring import require_reason, show_ring

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and do nothing.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
Force = Annotated[bool, typer.Option("--force", help="Even if the private keys that would sign do not open.")]


def recover(*, reason: Reason, dry_run: DryRun = False, force: Force = False, as_json: Json = False) -> None:
    """Put the key ring back as its private keys know it, after an older backup of the database was restored.

    What was revoked since is revoked again, and keys made since are published again: their tokens stay good. Nothing
    to do (exit 4) for a database that is as new as the keys.
    """
    require_reason(reason)
    with opened(Access.READ if dry_run else Access.CHANGE) as issuer:
        recovery = issuer.recovery
        ring = recovery.preview(blindly=force) if dry_run else recovery.recover(reason, blindly=force)
        revoked = sum(key.revoked_at is not None for key in ring.keys)
        does = "would be" if dry_run else "is"
        says = [
            f"the key ring {does} at version {ring.version}, of {len(ring.keys)} keys {revoked} revoked",
            "running nodes follow within 2 seconds; those that refused to start do now",
            "accounts, clients and sessions are as old as the backup: see docs/backup.md",
        ]
        show_ring(issuer, ring, as_json=as_json, says=says, dry_run=dry_run)
