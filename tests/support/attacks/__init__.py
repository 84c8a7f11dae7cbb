"""Attacks on the verifier as tables: tokens, key sets and answers, each with what must become of it."""
