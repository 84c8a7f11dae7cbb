"""Which verifiers know the next key, by what they sent and were given."""

from datetime import timedelta

import pytest
from support.defaults import START

from issuer.keyring.census import Evidence, KeySet, Sighting
from issuer.keyring.verifiers import NAMED_MOST, Knows, Summary, verifiers

HOUR = timedelta(hours=1)
NOW = START + 48 * HOUR
KEY_SETS = {
    '"old"': KeySet('"old"', 3, ("a",), NOW - 20 * HOUR),
    '"new"': KeySet('"new"', 4, ("a", "b"), NOW),
}


def seen(
    name: str = "billing",
    etag: str = '"new"',
    evidence: Evidence = Evidence.PRESENTED,
    hours: float = 0,
    instance: str = "",
    *,
    listening: bool = False,
    address: str = "10.0.0.7",
) -> Sighting:
    return Sighting(name, address, instance, etag, evidence, NOW - hours * HOUR, listening)


@pytest.mark.parametrize(
    ("sighting", "knows"),
    [
        (seen(), Knows.YES),
        (seen(evidence=Evidence.UPDATED), Knows.YES),
        (seen(evidence=Evidence.GIVEN), Knows.UNKNOWN),
        (seen(evidence=Evidence.GIVEN, instance="3f9a2c1b"), Knows.YES),
        (seen(etag='"old"'), Knows.NO),
        (seen(etag='"old"', evidence=Evidence.GIVEN), Knows.NO),
        (seen(etag='"lost"'), Knows.UNKNOWN),
    ],
)
def test_a_verifier_knows_the_next_key_if_it_showed_that_it_holds_a_set_with_it(
    sighting: Sighting, knows: Knows
) -> None:
    (found,) = verifiers([sighting], KEY_SETS, "b")
    assert found.knows_next is knows
    assert found.version == (None if sighting.etag == '"lost"' else KEY_SETS[sighting.etag].version)


def test_without_a_next_key_nothing_is_said_about_it() -> None:
    (found,) = verifiers([seen()], KEY_SETS, None)
    assert found.knows_next is None


def test_of_several_instances_the_one_with_the_oldest_set_counts() -> None:
    instances = [seen(instance="1"), seen(instance="2", etag='"old"', hours=0.5), seen(instance="3")]
    (found,) = verifiers(instances, KEY_SETS, "b")
    assert (found.instances, found.knows_next, found.version) == (3, Knows.NO, 3)
    assert found.last_seen == NOW
    assert not found.listening


def test_an_instance_that_fell_silent_while_others_ask_has_ended() -> None:
    (found,) = verifiers([seen(instance="1"), seen(instance="2", etag='"old"', hours=2)], KEY_SETS, "b")
    assert (found.instances, found.knows_next) == (1, Knows.YES)


def test_those_that_would_refuse_the_next_key_come_first_and_of_these_the_longest_silent() -> None:
    sightings = [
        seen("fine"),
        seen("unsure", evidence=Evidence.GIVEN),
        seen("late", '"old"', hours=1),
        seen("later", '"old"', hours=2),
    ]
    assert [each.name for each in verifiers(sightings, KEY_SETS, "b")] == ["later", "late", "unsure", "fine"]


def words(*sightings: Sighting) -> str:
    return Summary.of(verifiers(sightings, KEY_SETS, "b"), NOW).words(NOW)


def test_the_summary_counts_those_of_a_day_and_names_those_that_lack_the_key_or_are_silent() -> None:
    assert words(seen(), seen("orders", '"old"', hours=3), seen("mail", hours=26, address="10.0.0.9")) == (
        "1 of 2 verifiers seen in 24 h know the next key; orders at 10.0.0.7 does not, last asked 3 h ago;"
        " mail at 10.0.0.9 last asked 26 h ago"
    )
    assert words(seen()) == "1 of 1 verifier seen in 24 h knows the next key"
    assert words(seen(), seen("b", evidence=Evidence.GIVEN)) == (
        "1 of 2 verifiers seen in 24 h know the next key; for 1 this cannot be told, as no ETag was sent"
    )
    assert words() == "no verifier was seen in 24 h, so whether they know the next key is not known"


def test_a_long_list_is_cut() -> None:
    text = words(*(seen(f"v{number}", '"old"') for number in range(NAMED_MOST + 2)))
    assert text.endswith("; and 2 more")
    assert text.count("does not") == NAMED_MOST
