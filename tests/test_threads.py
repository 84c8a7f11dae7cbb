"""How many cores the threads of a process may use."""

import os
from pathlib import Path

import pytest

from issuer.threads import cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_getaffinity")
@pytest.mark.parametrize(
    ("content", "used"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("6400000 100000", None), ("", None)],
)
def test_a_container_has_as_many_cores_as_its_limit_lets_it(
    tmp_path: Path, content: str, used: int | None
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(content)
    assert cores(limit) == (used or len(os.sched_getaffinity(0)))


def test_without_a_limit_all_cores_are_used(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == len(os.sched_getaffinity(0))
