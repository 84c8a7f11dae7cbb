"""Runs migrations on the connection, and inside the transaction, that `store.database` hands over."""

from alembic import context

from issuer.accounts import store
from issuer.audit import store
from issuer.clients import store
from issuer.database import secrets, subjects
from issuer.database.database import metadata
from issuer.database.schema import VERSION_TABLE, carry_over
from issuer.keyring import heartbeat_store, store
from issuer.signing import pem_database
from issuer.throttling import store
from issuer.tokens import event_store, refresh_rotation

TABLES = (
    store.users,
    store.audit,
    store.assertions,
    store.clients,
    refresh_rotation.families,
    heartbeat_store.heartbeats,
    pem_database.private_keys,
    store.key_ring,
    event_store.session_events,
    secrets.secrets,
    subjects.subjects,
    store.devices,
    store.throttle,
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
