"""The fork server imports this module: it loads what workers need, which then share the memory.

The fork server itself serves no request, and must outlive signals to the process group (Ctrl-C): without it the main
process could not start workers, nor notice that one has ended.
"""

import gc
import importlib
import os
import signal

from issuer.serving.signals import FOR_SERVERS

# Blocked, not ignored: a signal to a worker that was just forked stays pending until the worker can handle it.
signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SERVERS)
os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_SERVERS))

for name in ("uvloop", "sqlalchemy.dialects.sqlite", "issuer.serving.connections", "issuer.serving.worker"):
    importlib.import_module(name)

# Garbage collection would write to the objects loaded so far, and their memory would no longer be shared.
gc.collect()
gc.freeze()
