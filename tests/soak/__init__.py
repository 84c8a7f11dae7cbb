"""The soak test: real nodes, verifiers and faults, while every promise about keys is checked continuously.

`run` puts it together; `servers/test_soak.py` runs it for a minute, `benchmarks/soak.py` for as long as requested.
"""
