"""HTTP connections for uvicorn with limits on size, time and number, for the issuer and the example service.

`limits` defines the limits, `ledger` counts the connections of a process, `heads` validates the head of a request,
`parsing` reads requests, `ending` closes connections, `protocol` combines these two, `accepting` accepts connections,
`config` and `adoption` install the limits in uvicorn, and `files` serves files from memory. Requests are left to the
application.

`verifier_example/connections` is a symbolic link to this folder, as the example imports nothing of the issuer. So
imports are relative here, and nothing else of either service is imported.
"""

from .adoption import bound_connections_of_this_server
from .config import Config
from .ledger import Cause
from .limits import Limits
from .protocol import Connection

__all__ = ["Cause", "Config", "Connection", "Limits", "bound_connections_of_this_server"]
