"""JSON endpoints for users: log-in, registration, their account and their sessions.

Pages for browsers are in `pages`, the OAuth endpoints of clients in `oauth`.
"""
