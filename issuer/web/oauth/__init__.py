"""OAuth 2.0 endpoints for clients: token, revocation and introspection.

Endpoints for users are in `account`.
"""
