"""Pages for people with a browser.

JSON endpoints are in `account`.
"""
