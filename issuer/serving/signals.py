"""The signal by which the processes of one node talk to each other, beside those that mean the same everywhere."""

import signal
from typing import Final

NOT_READY: Final = signal.SIGUSR1
"""The process will be stopped soon: `/readyz` says so from now on, while everything else is served as before."""

FOR_SERVERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, NOT_READY)
"""What the processes that serve heed, and the one that they are forked from does not."""
