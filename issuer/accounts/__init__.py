"""User accounts: acceptable names and passwords, hashing, the table of users, log-in and registration.

Limits on guessing are left to `throttling`, what operators do to accounts to `administration`.
"""
