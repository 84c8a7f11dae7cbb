"""Limits on guessing and on making accounts: `limits` defines them, `store` counts, and `guard` applies them.

Whether a password or secret is right is left to `accounts` and `clients`.
"""
