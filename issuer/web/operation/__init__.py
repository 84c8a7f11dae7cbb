"""Health, metrics, and the background tasks with their supervision.

The work of the tasks is in `keyring` and `maintenance`.
"""
