"""`issuer` on a machine with a wrong clock: the same commands, with a shifted clock passed to `build`.

A script: each worker that it starts runs these lines first, and so has the same clock.
"""

import os
import sys
from datetime import datetime, timedelta
from functools import partial

from issuer import wiring
from issuer.clock import system_clock

OFFSET = timedelta(seconds=float(os.environ["SOAK_CLOCK_OFFSET"]))


def shifted() -> datetime:
    """Return the time of the wrong clock."""
    return system_clock() + OFFSET


# Before the commands take `build` from there; where workers are forked, their factory has taken it already.
wiring.build = partial(wiring.build, clock=shifted)
if factory := sys.modules.get("issuer.serving.worker"):
    vars(factory)["build"] = wiring.build

if __name__ == "__main__":
    from issuer.cli import main

    main()
