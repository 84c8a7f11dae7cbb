"""Grants: one file a grant, form in and permission out; one pipeline authenticates, narrows and mints."""
