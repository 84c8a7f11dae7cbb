"""Runs migrations on the connection, and inside the transaction, that `store.database` hands over."""

from alembic import context

from issuer.store import (
    accounts,
    audit,
    clients,
    heartbeats,
    private_keys,
    ring,
    rotations,
    secrets,
    session_events,
    throttle,
)
from issuer.store.database import metadata
from issuer.store.schema import VERSION_TABLE, carry_over

TABLES = (
    accounts.users,
    audit.audit,
    clients.assertions,
    clients.clients,
    rotations.families,
    heartbeats.heartbeats,
    private_keys.private_keys,
    ring.key_ring,
    secrets.secrets,
    session_events.session_events,
    throttle.devices,
    throttle.throttle,
)

connection = context.config.attributes["connection"]
carry_over(connection)
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
