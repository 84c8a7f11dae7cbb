"""What operators do with users, clients and sessions, and the import of users.

Which values are accepted is decided in `accounts` and `clients`. Commands are in `cli`, key operations in `keyring`.
"""
