"""What operators do with users, clients and sessions, what users do with their account, and the import of users.

Which values are accepted is decided in `accounts` and `clients`. Commands are in `cli`, key operations in `keyring`.
"""
