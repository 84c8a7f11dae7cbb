"""Clients: applications that request tokens, their table, and how they authenticate.

What a grant allows a client is decided in `grants`; operators change clients through `administration`.
"""
