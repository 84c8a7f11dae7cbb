"""Endpoints and tasks for operation: health, metrics, and background tasks with their supervision.

What the tasks do is in the packages below.
"""
