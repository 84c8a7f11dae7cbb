"""Checks: what is wrong with an installation, each with its fix; nothing is changed.

One file for each thing that is looked at; `site` looks at all of them. What words have been found elsewhere already,
in settings, signing or the store, are used as they are.
"""
