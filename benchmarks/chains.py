"""A driver beside wrk: refreshes chains of tokens over raw connections, one connection a chain.

A process of its own, with what to do as JSON on standard input; the last line of its output is what `load` reads.
"""

import json
import selectors
import socket
import statistics
import sys
import time
from urllib.parse import urlsplit

PATIENCE_SECONDS = 20.0
END_OF_HEAD = b"\r\n\r\n"


class Chain:
    """One chain on its connection: always asked with the newest token that it was given."""

    def __init__(self, plan: dict[str, str], token: str) -> None:
        url = urlsplit(plan["url"])
        self.token = token
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
        """Send the newest token."""
        body = self._form + self.token
        self._asked = time.perf_counter()
        self.socket.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())

    def receive(self) -> tuple[bool, float] | None:
        """Take in what has come: whether there was another token, and after how long; None: not all of it."""
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
        self.token = json.loads(body)["refresh_token"]
        return True, took


def refresh(chains: list[Chain], seconds: float) -> tuple[list[float], int, float]:
    """Let every chain go on for so many seconds; return how long each took, how many were refused, and all."""
    selector = selectors.DefaultSelector()
    for chain in chains:
        selector.register(chain.socket, selectors.EVENT_READ, chain)
    took: list[float] = []
    refused = 0
    began = last = time.perf_counter()
    for chain in chains:
        chain.ask()
    waiting = len(chains)
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
    chains = [Chain(plan, token) for token in plan["tokens"]]
    took, refused, lasted = refresh(chains, plan["seconds"])
    hundredths = statistics.quantiles(took, n=100)
    report = {
        "requests": len(took),
        "microseconds": lasted * 1e6,
        "p50": hundredths[49] * 1e6,
        "p99": hundredths[98] * 1e6,
        "refused": refused,
        "broken": 0,
        "tokens": [chain.token for chain in chains],
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
