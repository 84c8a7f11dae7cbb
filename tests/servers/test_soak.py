"""A minute of the soak test: every kind of fault happens, and no promise about keys is broken.

Faults and checks are defined in `soak`; `benchmarks/soak.py` runs it for longer, and requires speed, too.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from soak.faults import Fault
from soak.findings import Findings
from soak.rules import BUSY, Rules
from soak.run import KINDS, soak
from support.replication import temporary_pair
from support.servers import HOST

SECONDS = 20.0
SEED = 70
"""With rules under which verifiers may listen."""
LEAST: Mapping[str, int] = {
    **dict.fromkeys(Fault, 1),
    "looks at a node that is not ready": 5,
    "looks at a database without a primary": 1,
    "not issued: 503": 1,
    "not issued: ConnectError": 1,
    "tokens issued": 100,
    "waits granted": 10,
    "sessions refreshed": 20,
    **{f"verified: {kind.kind}": 300 for kind in KINDS},
}
ROTATIONS = 4


def lacking(findings: Findings) -> list[str]:
    """Return what did not happen often enough: without events, no promise can be broken."""
    counts = findings.counts
    manual = counts["manual rotations, exit 0"] + counts["manual rotations, exit 3"]
    return [
        *(f"{what}: {counts[what]} of {least}" for what, least in LEAST.items() if counts[what] < least),
        *([f"{findings.rotations} rotations"] if findings.rotations < ROTATIONS else []),
        *([f"{manual} manual rotations"] if manual < ROTATIONS else []),
        *(f"no token of {node} after a failover" for node in ("a", "b") if not findings.recoveries.get(node)),
    ]


def test_no_valid_token_is_refused_while_nodes_are_killed_stopped_cut_off_and_fail_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", HOST)  # PyJWKClient would ask a proxy for loopback
    with temporary_pair() as pair:
        findings = soak(
            tmp_path / "soak", pair, SECONDS, SEED, pace=BUSY, is_enough=lambda found: not lacking(found)
        )
    assert not findings.broken, "\n".join(findings.broken)
    assert lacking(findings) == []
    assert findings.clock_offset("b", "a") == pytest.approx(Rules.random(SEED).clock_offset, abs=1)
