"""An example service that knows its issuer by URL only, and the verifier that it protects itself with.

Whatever issues the tokens is left to the issuer: nothing here imports it.
"""
