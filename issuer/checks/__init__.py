"""Checks of an installation, each with a fix for what it finds; they change nothing.

A module for each subject; `installation` runs all of them. Errors of settings, signing and the database have a fix of
their own, which is reported unchanged.
"""
