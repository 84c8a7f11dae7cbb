"""Sessions of browsers at the issuer: started at sign-in, found by a cookie, ended by sign-out.

How a user is authenticated is decided in `accounts.login`; what a session is needed for, in `authorize`.
"""
