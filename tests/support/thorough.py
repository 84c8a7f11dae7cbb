"""Tests that try long histories, very many inputs, or whole plans of others: `make check` leaves them out.

`make test` runs them. Each of these files takes seconds: run it when you change what it tests.
"""

from pathlib import Path

import pytest

from support.processes import TESTS, WHOLE

FILES = (
    "accounts/test_imported_hashes.py",
    "cli/test_audit.py",
    "cli/test_usage.py",
    "clients/test_assertion.py",
    "clients/test_host_lookup.py",
    "keyring/test_census.py",
    "keyring/test_document.py",
    "keyring/test_key_count.py",
    "keyring/test_promises_over_time.py",
    "maintenance/test_move.py",
    "maintenance/test_move_failures.py",
    "signing/test_key_import.py",
    "test_addresses.py",
    "test_clocks.py",
    "test_parsers.py",
    "throttling/test_guard.py",
    "throttling/test_limits.py",
    "tokens/test_families.py",
    "tokens/test_group_commit.py",
    "tokens/test_group_commit_attacks.py",
    "tokens/test_refresh.py",
    "tokens/test_session_histories.py",
    "verifier/test_fuzz.py",
    "verifier/test_standards.py",
    "web/http/test_ambiguity.py",
    "web/http/test_fast_path.py",
    "web/oauth/test_authorization_errors.py",
    "web/oauth/test_conformance_*.py",
    "web/oauth/test_sign_in_*.py",
    "web/operation/test_metrics.py",
    "web/test_all_endpoints.py",
    "web/test_clocks_of_nodes.py",
    "web/test_documented_errors.py",
    "web/test_openapi.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: takes long, so `make check` leaves it out")


def is_thorough(path: Path) -> bool:
    """Return whether a file is among `FILES`."""
    return any(path.relative_to(TESTS).match(pattern) for pattern in FILES)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file that `make check` leaves out as a whole."""
    if not collection_path.is_relative_to(TESTS):
        return None
    left_out = config.getoption("markexpr")
    if "not thorough" in left_out and collection_path.is_file() and is_thorough(collection_path):
        return True
    is_whole = collection_path.is_dir() and collection_path.relative_to(TESTS).as_posix() in WHOLE
    return True if "not processes" in left_out and is_whole else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `FILES`."""
    for item in items:
        if is_thorough(item.path):
            item.add_marker("thorough")
