"""HTTP connections for uvicorn that cost a bounded amount before a request is known; used by issuer and example.

`limits` says how much, `ledger` counts the connections of a process, `heads` judges the head of a request, `parsing`
reads requests, `ending` closes connections, `protocol` puts both together, `accepting` accepts connections, `config`
and `adoption` give all that to uvicorn. `files` serves files without a descriptor for each answer. What a request
means is left to the application.

`verifier_example/connections` is a link to this folder: the example imports nothing of the issuer, and there is no
second copy. So imports are relative here, and nothing else of either service is imported.
"""

from .adoption import bound_connections_of_this_server
from .config import Config
from .ledger import Cause
from .limits import Limits
from .protocol import Connection

__all__ = ["Cause", "Config", "Connection", "Limits", "bound_connections_of_this_server"]
