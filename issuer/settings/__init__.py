"""Settings: read from the environment, `.env` and files, and validated; each error has the setting's name and a fix.

Timing rules are checked in `keyring.policy`; the objects that settings describe are built in `wiring`.
"""
