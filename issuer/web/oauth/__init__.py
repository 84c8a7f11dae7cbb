"""Endpoints of OAuth 2.0 for applications: token, revocation and introspection.

Endpoints for people are in `account`.
"""
