"""Log lines stay whole when several processes write to one file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes


LINES = 2000
WRITER = f"""
from issuer.logs import configure_log
import structlog
configure_log()
print(flush=True)
input()
log = structlog.get_logger("issuer.requests").bind()
for _ in range({LINES}):
    log.info("request", method="POST", path="/oauth2/token", status=200)
"""


def test_the_lines_of_several_workers_stay_complete_in_one_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.read(1)  # all are ready, and begin together
        for writer in writers:
            assert writer.stdin
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate(timeout=120)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
    broken = []
    for line in path.read_text().split("\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            broken.append(line)
    assert not broken, f"{len(broken)} of {3 * LINES}, such as {broken[0]!r}"
