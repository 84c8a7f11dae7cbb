"""The authorization endpoint: what is requested, what it needs of the user, consent, and the code that it leads to.

Browser sessions are kept in `sessions`, codes redeemed by `grants.authorization_code`; pages are in `web.pages`.
"""
