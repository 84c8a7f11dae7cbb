"""Clients: applications that ask for tokens, their table, and how they prove who they are.

What a client may ask for with a grant is decided in `grants`; operators change clients through `administration`.
"""
