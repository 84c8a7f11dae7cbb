"""The signal by which the processes of one node talk to each other, beside those that mean the same everywhere."""

import signal
from typing import Final

NOT_READY: Final = signal.SIGUSR1
"""The process will be stopped soon: `/readyz` says so from now on, while everything else is served as before."""
