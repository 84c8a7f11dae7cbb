"""The issuer over HTTP: one file an endpoint, grouped by who uses it.

An endpoint parses, calls one function of a package below and renders; processes are left to `serving`.
"""
