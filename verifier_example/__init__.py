"""An example service on top of `jwks_verifier`; it knows its issuer by URL only.

Issuing tokens is left to the issuer; nothing here imports it.
"""
