"""The audit trail of keys: a chain of hashes in which no entry can be changed unnoticed, and its table.

What is recorded of keys is decided in `keyring.transitions`.
"""
