"""`issuer` on a machine with a wrong clock: the same commands, with a shifted clock passed to `build`.

A script: each worker that it starts runs these lines first, and so has the same clock. Or lines that the processes of
a forked server run.
"""

import os
import sys
from datetime import datetime, timedelta
from functools import partial

from issuer import databases, wiring
from issuer.clock import system_clock

OFFSET = timedelta(seconds=float(os.environ["SOAK_CLOCK_OFFSET"]))


def shifted() -> datetime:
    """Return the time of the wrong clock."""
    return system_clock() + OFFSET


# Only the clock of this machine is wrong: that of the PostgreSQL server is one for all nodes.
databases.shared_clock_by = lambda _clock: lambda: None  # type: ignore[assignment,return-value]

# Before or after others take `build` from there: workers, and what is forked, have imported them already.
original, wiring.build = wiring.build, partial(wiring.build, clock=shifted)
for module in list(sys.modules.values()):
    if vars(module).get("build") is original:
        vars(module)["build"] = wiring.build

if __name__ == "__main__":
    from issuer.cli import main

    main()
