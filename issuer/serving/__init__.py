"""Processes of `issuer serve`: the supervisor, workers, signals, and the connections that uvicorn accepts.

The application that they serve is `web`; bounds on connections are in `connections`.
"""
