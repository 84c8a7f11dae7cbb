"""Tokens: access tokens, and refresh tokens with their families; made, kept, rotated, introspected and revoked.

Who may have one is decided in `grants`.
"""
