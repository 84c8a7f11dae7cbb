"""Runs migrations on the connection, and inside the transaction, that `database.database` hands over."""

from alembic import context

from issuer.database.schema import VERSION_TABLE, create_version_table

connection = context.config.attributes["connection"]
create_version_table(connection)
context.configure(
    connection=connection,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
