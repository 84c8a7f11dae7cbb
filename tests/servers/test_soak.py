"""A minute of the soak: no promise about keys breaks, and everything that could break one really happened.

What happens and what is judged is told in `soak`; `benchmarks/soak.py` runs it for longer.
"""

from pathlib import Path

import pytest
from replicated import temporary_pair
from running import HOST
from soak.faults import Fault
from soak.rules import Rules
from soak.run import KINDS, soak

SECONDS = 40.0
SEED = 72
LONGEST_PAUSE_SECONDS = 20.0
"""Both nodes may be killed at once, and a start takes its time."""


def test_no_valid_token_is_refused_while_nodes_are_killed_stopped_cut_off_and_fail_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", HOST)  # PyJWKClient would ask a proxy for loopback
    with temporary_pair() as pair:
        findings = soak(tmp_path / "soak", pair, SECONDS, SEED)
    counts = findings.counts
    assert not findings.broken, "\n".join(findings.broken)
    # A soak in which nothing happens keeps every promise, too.
    assert all(counts[fault] for fault in Fault), counts
    assert findings.rotations >= 4
    assert counts["rotations by hand, exit 0"] + counts["rotations by hand, exit 3"] >= 4
    assert counts["looks at a node that is not ready"] >= 5
    assert counts["not issued: 503"]
    assert counts["not issued: ConnectError"]
    assert findings.clock_offset("b", "a") == pytest.approx(Rules.drawn(SEED).clock_offset, abs=0.5)
    assert counts["tokens issued"] >= 100
    assert counts["sessions refreshed"] >= 20
    assert counts["looks at a database without a primary"]
    assert all(findings.recoveries[node] for node in ("a", "b"))
    assert all(counts[f"verified: {kind.kind}"] >= 300 for kind in KINDS), counts
    assert all(pause < LONGEST_PAUSE_SECONDS for pause in findings.pauses.values()), findings.pauses
