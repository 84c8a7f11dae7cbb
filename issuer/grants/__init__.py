"""The grants of the token endpoint, one module each, and the pipeline that all requests for tokens pass.

Clients are authenticated in `clients`, users in `accounts`; tokens are issued and stored in `tokens`.
"""
