"""Which time settings are refused, and how durations are printed.

What follows from them for keys is tested in `test_ring`.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.example_rings import POLICY

from issuer.clock import duration
from issuer.keyring.policy import BadPolicy
from issuer.settings.values import parse_duration


def test_under_a_short_lead_a_node_without_database_publishes_for_less_time() -> None:
    short = replace(POLICY, publish_lead=timedelta(minutes=10))
    assert short.publish_without_database == timedelta(minutes=4, seconds=29)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"publish_lead": timedelta(minutes=5)}, "5m + ISSUER_NODE_TIMEOUT 30s + ISSUER_CLOCK_SKEW 30s = 6m"),
        ({"rotation_period": timedelta(hours=1)}, "ISSUER_ROTATION_PERIOD is 1h"),
        ({"outage_limit": timedelta(seconds=1)}, "ISSUER_OUTAGE_LIMIT is 1s"),
        (
            {"token_lifetime": timedelta(days=65), "rotation_period": timedelta(days=1)},
            "+ 2 x ISSUER_CLOCK_SKEW 30s + 1s = 5616091s, which makes 66 replaced keys + the current key +",
        ),
        ({"node_timeout": timedelta(seconds=1)}, "ISSUER_NODE_TIMEOUT is 1s but must be at least 2s"),
    ],
)
def test_contradictory_settings_are_refused_with_the_arithmetic(
    change: dict[str, timedelta], says: str
) -> None:
    with pytest.raises(BadPolicy) as refusal:
        replace(POLICY, **change)  # type: ignore[arg-type]
    assert says in str(refusal.value)


def test_durations_are_printed_as_settings_are_written() -> None:
    spans = [
        timedelta(days=30),
        timedelta(hours=36),
        timedelta(minutes=90),
        timedelta(seconds=45),
        timedelta(0),
    ]
    assert [duration(span) for span in spans] == ["30d", "36h", "90m", "45s", "0s"]


def test_the_rotation_period_suggested_for_fewer_keys_is_accepted() -> None:
    for days in (40, 65, 300, 3650):
        for standbys in (1, 10):
            change = {"token_lifetime": timedelta(days=days), "standby_keys": standbys}
            try:
                replace(POLICY, rotation_period=timedelta(days=1), **change)  # type: ignore[arg-type]
            except BadPolicy as error:
                period = parse_duration(error.fix.line.removeprefix("ISSUER_ROTATION_PERIOD="))
                assert replace(POLICY, rotation_period=period, **change).planned_keys <= 60  # type: ignore[arg-type]
