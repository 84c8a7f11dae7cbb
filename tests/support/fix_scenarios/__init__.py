"""Scenarios of `checks/test_printed_fixes.py`: each breaks an installation so that one kind of fix is printed."""
