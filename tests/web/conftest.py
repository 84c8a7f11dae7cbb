"""Fixtures of tests of the web layer."""

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr

import pytest
import structlog

from issuer.logs import configure_log


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """All that was logged."""
    output = io.StringIO()
    with redirect_stderr(output):
        configure_log()
    yield output.getvalue
    structlog.reset_defaults()
