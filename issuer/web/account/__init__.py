"""Endpoints for people: log-in, registration, their account and their sessions.

Pages for browsers are in `pages`; token endpoints for applications in `oauth`.
"""
