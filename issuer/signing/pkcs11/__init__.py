"""Private keys in a PKCS#11 token: sessions, mechanisms, the signer, and the checkpoint of the key ring kept there.

PEM files and the database are left to the modules beside this package.
"""
