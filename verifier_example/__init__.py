"""An example service and the verifier that protects it; it knows its issuer by URL only.

Issuing tokens is left to the issuer; nothing here imports it.
"""
