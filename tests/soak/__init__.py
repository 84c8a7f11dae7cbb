"""The soak: real nodes, real verifiers and real faults, and every promise about keys judged all the while.

`run` puts it together; `servers/test_soak.py` runs it for a minute, `benchmarks/soak.py` for as long as asked.
"""
