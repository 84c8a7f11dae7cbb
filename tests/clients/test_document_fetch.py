"""A failed fetch of a document has a reason in words, even if the network gives none."""

import socket
import struct
import threading

import pytest

from issuer.clients.document_fetch import DocumentFetcher
from issuer.clients.outgoing_http import ExchangeFailed

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


def test_a_connection_that_is_reset_has_a_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            connection.close()

        resetting = threading.Thread(target=reset)
        resetting.start()
        with pytest.raises(ExchangeFailed, match=r"\w"):
            DocumentFetcher().fetch(f"http://127.0.0.1:{server.getsockname()[1]}/")
        resetting.join()
