"""What workers are forked from: a process that has imported what they need, and serves nobody itself.

Importing this makes it so. Signals to the whole group, as a terminal sends them, are for the main process and its
workers: without this one the main process could neither start workers nor tell that they live.
"""

import gc
import importlib
import os
import signal

from issuer.serving.signals import FOR_SERVERS

# Not ignored, but blocked: what is sent to a worker that has just been forked waits until it can be heeded.
signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SERVERS)
os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_SERVERS))

for name in ("uvloop", "sqlalchemy.dialects.sqlite", "issuer.serving.connections", "issuer.serving.worker"):
    importlib.import_module(name)

# What is loaded now stays. Looking for garbage among it would write to it, and then it would be shared no more.
gc.collect()
gc.freeze()
