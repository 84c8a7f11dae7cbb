"""HTML pages.

JSON endpoints for users are in `account`.
"""
