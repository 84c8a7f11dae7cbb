"""Which tests start processes: `make check` leaves them out, and an unmarked test that starts one fails.

They are all tests of the folders in WHOLE, those that use PostgreSQL, and those marked `processes`.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
WHOLE = ("benchmarks", "checks", "interop", "servers", "signing/pkcs11")
"""Folders in which nearly every test starts a process."""
SERVERS = frozenset({"postgresql", "pkcs11"})
"""Fixtures, and parameters of fixtures."""
STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})
"""Audit events of the interpreter."""
_forbidden: list[str] = []


def starts_processes(item: pytest.Item) -> bool:
    """Return whether a test may start processes."""
    folder = item.path.parent.relative_to(TESTS).as_posix()
    fixtures: list[str] = getattr(item, "fixturenames", [])
    parameters: dict[str, object] = item.callspec.params if hasattr(item, "callspec") else {}
    return (
        folder in WHOLE
        or item.get_closest_marker("processes") is not None
        or not SERVERS.isdisjoint((*fixtures, *map(str, parameters.values())))
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "processes: starts processes, so `make check` leaves it out")
    sys.addaudithook(_refuse)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `-m "not processes"` leaves out."""
    for item in items:
        if starts_processes(item):
            item.add_marker("processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse processes while a test without the marker runs."""
    _forbidden[:] = [] if item.get_closest_marker("processes") else [item.nodeid]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Allow what ends, such as servers for all tests."""
    _forbidden.clear()


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if _forbidden and event in STARTS:
        raise AssertionError(
            f"{_forbidden[0]} starts a process: mark it with pytest.mark.processes, "
            "as `make check` runs only tests that start none"
        )
