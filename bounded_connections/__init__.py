"""HTTP connections for uvicorn that cost a bounded amount before a request is known; used by issuer and example.

`limits` says how much, `ledger` counts the connections of a process, `heads` judges the head of a request, `protocol`
reads connections, `accepting` accepts them, `config` and `adoption` give all that to uvicorn. What a request means is
left to the application.
"""

from bounded_connections.adoption import bound_connections_of_this_server
from bounded_connections.config import Config
from bounded_connections.ledger import Cause
from bounded_connections.limits import Limits
from bounded_connections.protocol import Connection

__all__ = ["Cause", "Config", "Connection", "Limits", "bound_connections_of_this_server"]
