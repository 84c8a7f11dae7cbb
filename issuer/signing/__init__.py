"""Private keys: generated, imported, stored and used to sign; in PEM files, in the database or in a PKCS#11 token.

Which key signs, and when, is decided in `keyring`.
"""
