"""The audit log of keys: a hash chain, in which a changed entry is detected, and its table.

What is recorded of keys is decided in `keyring.transitions`.
"""
