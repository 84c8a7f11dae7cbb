"""What a process remembers of verifiers: who they say they are, within bounds that no stranger can use up."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.defaults import START

from issuer.database.errors import DatabaseUnavailable
from issuer.keyring.census import (
    ADDRESS_MOST,
    FLUSH_MOST,
    KEPT,
    NAME_MOST_CHARACTERS,
    Census,
    Evidence,
    KeySet,
    Sighting,
    identify,
)

SERVED = KeySet('"a"', 1, ("a", "b"), START)
SECOND = timedelta(seconds=1)


class Saved:
    """Where a census saves; it can fail."""

    def __init__(self) -> None:
        self.sightings: list[Sighting] = []
        self.key_sets: list[KeySet] = []
        self.is_down = False

    def __call__(self, sightings: list[Sighting], key_sets: list[KeySet]) -> None:
        if self.is_down:
            raise DatabaseUnavailable("down")
        self.sightings += sightings
        self.key_sets += key_sets


def seen(name: str, address: str = "10.0.0.7", *, at: int = 0, listening: bool = False) -> Sighting:
    return Sighting(name, address, "", SERVED.etag, Evidence.GIVEN, START + at * SECOND, listening)


@pytest.mark.parametrize(
    ("agent", "name", "instance"),
    [
        ("jwks-verifier/0.1.0 (billing; 3f9a2c1b)", "billing", "3f9a2c1b"),
        ("jwks-verifier/0.1.0 (3f9a2c1b)", "jwks-verifier/0.1.0", "3f9a2c1b"),
        ("jwks-verifier/0.1.0 (billing; not an id)", "jwks-verifier/0.1.0 (billing; not an id)", ""),
        ("Python-urllib/3.11", "Python-urllib/3.11", ""),
        ("jose/v6.0.11", "jose/v6.0.11", ""),
        ("Go-http-client/1.1", "Go-http-client/1.1", ""),
        ("Apache-HttpClient/5.4 (Java/21.0.5)", "Apache-HttpClient/5.4 (Java/21.0.5)", ""),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Mozilla/5.0 (X11; Linux x86_64)", ""),
        ("", "", ""),
        ("\x1b[31mred\x1b[0m\u202e", "[31mred[0m", ""),
        ("x" * 200, "x" * NAME_MOST_CHARACTERS, ""),
    ],
)
def test_a_verifier_is_called_what_it_says(agent: str, name: str, instance: str) -> None:
    assert identify(agent) == (name, instance)


@given(st.text(max_size=200))
def test_a_name_is_short_and_can_be_printed_whatever_is_sent(agent: str) -> None:
    name, _ = identify(agent)
    assert name.isprintable()
    assert len(name) <= NAME_MOST_CHARACTERS


def test_only_what_is_new_since_the_last_time_is_saved() -> None:
    saved = Saved()
    census = Census(saved)
    census.flush(START)
    assert saved.sightings == []
    census.remember(seen("billing"), SERVED)
    census.remember(seen("orders"), SERVED)
    census.flush(START)
    assert {each.name for each in saved.sightings} == {"billing", "orders"}
    assert saved.key_sets == [SERVED]
    census.remember(seen("billing", at=1), SERVED)
    census.flush(START)
    assert saved.sightings[2:] == [seen("billing", at=1)]


def test_what_could_not_be_saved_is_saved_later() -> None:
    saved = Saved()
    census = Census(saved)
    census.remember(seen("billing"), SERVED)
    saved.is_down = True
    with pytest.raises(DatabaseUnavailable):
        census.flush(START)
    saved.is_down = False
    census.flush(START)
    assert (saved.sightings, saved.key_sets) == ([seen("billing")], [SERVED])


def test_one_round_saves_a_bounded_number_and_listeners_first() -> None:
    saved = Saved()
    census = Census(saved)
    for number in range(FLUSH_MOST):
        census.remember(seen("x", f"10.0.{number // 250}.{number % 250}"), SERVED)
    census.remember(seen("listener", "10.9.9.9", listening=True), SERVED)
    census.flush(START)
    assert len(saved.sightings) == FLUSH_MOST
    assert saved.sightings[0].name == "listener"
    census.flush(START)
    assert len(saved.sightings) == FLUSH_MOST + 1


def test_a_verifier_that_asked_long_ago_is_forgotten() -> None:
    census = Census(Saved())
    census.remember(seen("billing"), SERVED)
    census.flush(START + KEPT + SECOND)
    assert len(census) == 0


def test_nothing_is_remembered_while_the_census_is_off() -> None:
    census = Census(Saved(), is_on=False)
    census.remember(seen("billing"), SERVED)
    assert len(census) == 0


@pytest.mark.parametrize("address", ["10.0.0.7", "2001:db8::{}"])
def test_one_address_or_ipv6_subnet_cannot_have_more_than_its_share(address: str) -> None:
    census = Census(Saved())
    for number in range(10 * ADDRESS_MOST):
        census.remember(seen(f"name-{number}", address.format(number), at=number), SERVED)
    assert len(census) == ADDRESS_MOST


MOST, SHARE = 60, 4
VERIFIERS = [("billing", "10.0.0.1"), ("orders", "10.0.0.1"), ("stock", "10.0.0.2")]
LISTENER = ("mail", "10.0.0.3")


@given(st.randoms(use_true_random=False), st.integers(0, 400))
def test_a_stranger_with_random_names_and_addresses_evicts_no_verifier_that_returned(
    chance: Random, requests: int
) -> None:
    census, ticks = Census(Saved(), most=MOST, address_most=SHARE), count()
    for name, address in VERIFIERS * 2:
        census.remember(seen(name, address, at=next(ticks)), SERVED)
    census.remember(seen(*LISTENER, at=next(ticks), listening=True), SERVED)
    for _ in range(requests):
        stranger = chance.choice((IPv4Address(chance.getrandbits(32)), IPv6Address(chance.getrandbits(128))))
        census.remember(seen(f"stranger {chance.random()}", str(stranger), at=next(ticks)), SERVED)
        assert len(census) <= MOST
    assert all((*each, "") in census for each in [*VERIFIERS, LISTENER])


@given(st.randoms(use_true_random=False), st.integers(0, 400))
def test_a_stranger_who_returns_from_few_addresses_evicts_nobody_else(chance: Random, requests: int) -> None:
    """The bound: his addresses times their share, and all others, are at most what is remembered."""
    addresses = [f"192.0.2.{number}" for number in range((MOST - len(VERIFIERS)) // SHARE)]
    census, ticks = Census(Saved(), most=MOST, address_most=SHARE), count()
    for name, address in VERIFIERS:
        census.remember(seen(name, address, at=next(ticks)), SERVED)
    for _ in range(requests):
        name, address, listening = str(chance.random()), chance.choice(addresses), chance.random() < 1 / 2
        for _ in range(2):
            census.remember(seen(name, address, at=next(ticks), listening=listening), SERVED)
    assert all((*each, "") in census for each in VERIFIERS)
