"""Fixtures of tests of checks."""

from support.installation import deployment, empty, installed

__all__ = ["deployment", "empty", "installed"]
