"""The database: URLs, engines, transactions, migrations, and what all tables share.

Each table belongs to the package whose facts it holds.
"""
