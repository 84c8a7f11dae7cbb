"""Audit logs: of keys, a hash chain in which a changed entry is detected, and of accounts and clients; their tables.

What is recorded of keys is decided in `keyring.transitions`, what of accounts and clients where they are changed.
"""
