"""Shared by tests: real servers and databases, clocks, a model of the key ring, a browser."""
