"""Maintenance of all stored data: moving it to another database, and deleting expired rows.

The tables belong to the packages whose facts they hold.
"""
