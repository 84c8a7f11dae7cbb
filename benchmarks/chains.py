"""A load generator for refresh tokens, which wrk cannot do: many sessions in turn over each raw connection.

A session rotates only a few times per second, so a connection uses another session for each request. Runs as a
process of its own: the plan comes as JSON on standard input, and `load` reads the last line of the output.
"""

import json
import selectors
import socket
import statistics
import sys
import time
from collections import deque
from urllib.parse import urlsplit

PATIENCE_SECONDS = 20.0
END_OF_HEAD = b"\r\n\r\n"


class Chains:
    """The chains of one connection: each is asked in turn, with the newest token that it was given."""

    def __init__(self, plan: dict[str, str], tokens: list[str]) -> None:
        url = urlsplit(plan["url"])
        self.tokens = deque(tokens)
        self.socket = socket.create_connection((url.hostname, url.port), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._form = f"grant_type=refresh_token&client_id={plan['client_id']}&refresh_token="
        self._head = (
            f"POST {plan['path']} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
        )
        self._received = b""
        self._asked = 0.0

    def ask(self) -> None:
        """Send the newest token of the next chain."""
        body = self._form + self.tokens[0]
        self._asked = time.perf_counter()
        self.socket.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())

    def receive(self) -> tuple[bool, float] | None:
        """Receive what has come: whether there was another token, and after how long; None: not all of it."""
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("the server hung up")
        self._received += more
        head, found, body = self._received.partition(END_OF_HEAD)
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self._received = b""
        took = time.perf_counter() - self._asked
        if b" 200 " not in head[:16]:
            return False, took
        used, given = self.tokens.popleft(), json.loads(body)["refresh_token"]
        self.tokens.append(given)
        return given != used, took


def refresh(connections: list[Chains], seconds: float) -> tuple[list[float], int, float]:
    """Ask on every connection for so many seconds; return how long each took, how many did not rotate, and all."""
    selector = selectors.DefaultSelector()
    for chains in connections:
        selector.register(chains.socket, selectors.EVENT_READ, chains)
    took: list[float] = []
    refused = 0
    began = last = time.perf_counter()
    for chains in connections:
        chains.ask()
    waiting = len(connections)
    while waiting:  # until each has its last answer: what was used up must be known
        ready = selector.select(PATIENCE_SECONDS)
        if not ready:
            raise TimeoutError("no answer")
        for key, _ in ready:
            answer = key.data.receive()
            if answer is None:
                continue
            done, seconds_taken = answer
            took.append(seconds_taken)
            refused += not done
            last = time.perf_counter()
            if done and last - began < seconds:
                key.data.ask()
            else:
                waiting -= 1
    return took, refused, last - began


def main() -> None:
    """Run it."""
    plan = json.load(sys.stdin)
    connections = [Chains(plan, tokens) for tokens in plan["tokens"]]
    took, refused, lasted = refresh(connections, plan["seconds"])
    hundredths = statistics.quantiles(took, n=100)
    report = {
        "requests": len(took),
        "microseconds": lasted * 1e6,
        "p50": hundredths[49] * 1e6,
        "p99": hundredths[98] * 1e6,
        "refused": refused,
        "broken": 0,
        "tokens": [list(chains.tokens) for chains in connections],
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
