"""Access tokens, and refresh tokens with their families: issued, stored, rotated, introspected and revoked.

Which request gets a token is decided in `grants`.
"""
