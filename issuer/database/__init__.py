"""The database: URLs, connections, transactions, migrations, types of columns, and tables that all packages use.

Each other table is defined in the package whose data it stores.
"""
