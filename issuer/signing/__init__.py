"""Private keys: making, storing, importing and signing with them; in PEM files, in the database, in a PKCS#11 token.

Which key signs when is decided in `keyring`.
"""
