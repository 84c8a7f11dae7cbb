"""Limits on guessing and on making accounts: the rules, the counters, and the guard that applies them.

Whether a password or secret is right is left to `accounts` and `clients`.
"""
