"""Alembic's environment: runs migrations in the transaction that `database.database` has begun."""

from alembic import context

from issuer.database.schema import VERSION_TABLE, create_version_table

connection = context.config.attributes["connection"]
create_version_table(connection)
context.configure(
    connection=connection,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite changes a table by creating a new one
)
context.run_migrations()
