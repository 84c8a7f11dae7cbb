"""What operators do: to users, to clients and to all sessions; importing users from elsewhere.

Which values are acceptable is decided in `accounts` and `clients`; commands are in `cli`, keys in `keyring`.
"""
