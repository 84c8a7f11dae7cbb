"""Care of stored data as a whole: moving it to another database, and deleting what has expired.

The tables belong to the packages whose facts they hold.
"""
