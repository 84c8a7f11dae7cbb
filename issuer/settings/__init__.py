"""Settings: from the environment, `.env` and files, each validated, each error with its name and its fix.

Timing rules are checked in `keyring.policy`; the objects that follow from settings are made in `wiring`.
"""
