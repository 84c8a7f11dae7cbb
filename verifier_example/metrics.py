"""The metrics of a verifier: verifications and fetches by outcome, the age and the state of the keys.

The verifier reports events through its hook `on_event`. Each process counts its own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jwks_verifier import Event, JwksCache, Reason, State
from verifier_example.connections import Cause

_VERIFICATIONS = (Event.ACCEPTED, Event.UNAVAILABLE)  # and REJECTED, which is counted by its reason
_FETCHES = (Event.FETCHED, Event.NOT_MODIFIED, Event.FETCH_FAILED)
_OTHERS = tuple(event for event in Event if event not in {*_VERIFICATIONS, *_FETCHES, Event.REJECTED})


class Metrics:
    """Counts events; no label identifies a token, a caller or a key."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()

    def count(self, event: Event, detail: str) -> None:
        """Count an event; pass this to a JwksCache as `on_event`."""
        self._counts[detail if event is Event.REJECTED else event] += 1

    def connection_refused(self, reason: str) -> None:
        """Count a connection or request that `connections` rejected before it reached the application."""
        self._connections[reason] += 1

    def render(self, cache: JwksCache) -> bytes:
        """Return the metrics in Prometheus' text format, with the current state of the cache."""
        return generate_latest(_Collector(self._counts, self._connections, cache))


class _Collector:
    def __init__(self, counts: Mapping[str, int], connections: Mapping[str, int], cache: JwksCache) -> None:
        self._counts = counts
        self._connections = connections
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, including those at 0: `rate()` needs a first sample."""
        for name, text, label, names in (
            ("verifications", "Verifications of tokens", "outcome", (*_VERIFICATIONS, *Reason)),
            ("fetches", "Fetches of the keys", "outcome", _FETCHES),
            ("events", "Other events of the verifier", "event", _OTHERS),
        ):
            counter = CounterMetricFamily(f"verifier_{name}", text, labels=[label])
            for value in names:
                counter.add_metric([value], self._counts[value])
            yield counter
        refused = CounterMetricFamily(
            "verifier_connections_refused",
            "Requests rejected and connections closed before they reached the application",
            labels=["reason"],
        )
        for cause in Cause:
            refused.add_metric([cause.value], self._connections[cause.value])
        yield refused
        yield GaugeMetricFamily(
            "verifier_keys_age_seconds", "Time since the keys were fetched; +Inf without any", self._cache.age
        )
        state = GaugeMetricFamily("verifier_state", "1 for the state of the keys", labels=["state"])
        for value in State:
            state.add_metric([value], value is self._cache.state)
        yield state
