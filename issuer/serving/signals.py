"""The signals that the processes of `issuer serve` handle.

What SIGTERM, SIGINT and SIGHUP do is decided in `supervisor`.
"""

import signal
from typing import Final

NOT_READY: Final = signal.SIGUSR1
"""The process will stop soon: `/readyz` reports unready from now on, and everything else is served as before."""

FOR_SERVERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, NOT_READY)
"""Handled by the main process and the workers; the fork server blocks them."""
