"""Which settings of time are refused, and how spans are told.

What follows from them for a key is `test_keyring`'s.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from test_keyring import POLICY

from issuer.policy import BadPolicy, duration


def test_with_a_short_lead_a_node_cut_off_publishes_for_less_long() -> None:
    short = replace(POLICY, publish_lead=timedelta(minutes=10))
    assert short.publish_without_database == timedelta(minutes=4, seconds=29)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"publish_lead": timedelta(minutes=5)}, "5m + ISSUER_NODE_TIMEOUT 30s + ISSUER_CLOCK_SKEW 30s = 6m"),
        ({"rotation_period": timedelta(hours=1)}, "ISSUER_ROTATION_PERIOD is 1h"),
        ({"outage_limit": timedelta(seconds=1)}, "ISSUER_OUTAGE_LIMIT is 1s"),
        ({"node_timeout": timedelta(seconds=1)}, "ISSUER_NODE_TIMEOUT is 1s but must be at least 2s"),
    ],
)
def test_a_policy_that_cannot_keep_the_promises_is_refused_with_the_arithmetic(
    change: dict[str, timedelta], says: str
) -> None:
    with pytest.raises(BadPolicy) as refusal:
        replace(POLICY, **change)  # type: ignore[arg-type]
    assert says in str(refusal.value)


def test_durations_are_told_as_settings_are_written() -> None:
    spans = [
        timedelta(days=30),
        timedelta(hours=36),
        timedelta(minutes=90),
        timedelta(seconds=45),
        timedelta(0),
    ]
    assert [duration(span) for span in spans] == ["30d", "36h", "90m", "45s", "0s"]
