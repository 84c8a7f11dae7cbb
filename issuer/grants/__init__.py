"""The token endpoint: one file a grant, form in and permission out; one pipeline authenticates, narrows and signs.

Clients are authenticated in `clients`, people in `accounts`; tokens are made and kept in `tokens`.
"""
