"""Documents under `/.well-known/`: the key set and discovery.

Which keys are published is decided in `keyring`.
"""
