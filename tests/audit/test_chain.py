"""The audit: every transition of a key is recorded, and every change of an entry is detected."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.example_rings import DAY, POLICY, SECOND, START, new_ring, public

from issuer.audit.chain import EMPTY, Action, Entry, Head, Link, chained, integrity_error
from issuer.keyring.ring import KeyRing
from issuer.keyring.transitions import transitions


def chain(*reasons: str) -> tuple[list[Link], Head]:
    links: list[Link] = []
    head = EMPTY
    for reason in reasons:
        links.append(chained(head, Entry(START, "me", Action.REVOKED, "a", 1, reason)))
        head = Head(links[-1].number, links[-1].digest)
    return links, head


def version(ring: KeyRing, number: int, now: datetime) -> KeyRing:
    return replace(ring, version=number, changed_at=now)


def recorded(before: KeyRing | None, after: KeyRing) -> list[tuple[str, str | None, datetime, str | None]]:
    entries = transitions(before, after, "me", "why")
    assert {entry.ring_version for entry in entries} <= {after.version}
    return [(entry.action, entry.kid, entry.at, entry.reason) for entry in entries]


FIRST = version(new_ring(), 1, START)


def test_an_intact_chain_has_no_error() -> None:
    assert integrity_error(*chain("one", "two", "three")) is None
    assert integrity_error([], EMPTY) is None


@pytest.mark.parametrize(
    ("tampered", "says"),
    [
        (
            lambda links: [links[0], replace(links[1], entry=replace(links[1].entry, reason="x")), links[2]],
            "2 was",
        ),
        (lambda links: [links[0], links[2]], "entry 2 is missing"),
        (lambda links: links[1:], "entry 1 is missing"),
        (lambda links: links[:2], "ends with entry 2, but 3"),
        (lambda _links: [], "ends with entry 0, but 3"),
        (lambda links: [links[0], replace(links[2], number=2), replace(links[1], number=3)], "2 was changed"),
        (lambda links: [*links, chained(Head(3, "forged"), links[0].entry)], "4 was changed"),
        (lambda links: [*links, chained(Head(3, links[2].digest), links[0].entry)], "entry 4, but 3"),
    ],
)
def test_a_changed_removed_moved_or_added_entry_is_detected(
    tampered: Callable[[list[Link]], list[Link]], says: str
) -> None:
    links, head = chain("one", "two", "three")
    problem = integrity_error(tampered(links), head)
    assert problem is not None
    assert says in problem


def test_every_member_of_an_entry_is_covered_by_its_digest() -> None:
    entry = Entry(START, "me", Action.REVOKED, "a", 1, "why")
    changes = [
        {"at": START + timedelta(microseconds=1)},
        {"actor": "you"},
        {"action": Action.RETIRED},
        {"kid": "b"},
        {"ring_version": 2},
        {"reason": None},
    ]
    digests = {chained(EMPTY, replace(entry, **change)).digest for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(digests) == len(changes) + 1


def test_the_first_ring_is_recorded() -> None:
    assert recorded(None, FIRST) == [
        ("published", "a", START, None),
        ("activated", "a", START, "why"),
        ("published", "b", START, None),
    ]


def test_a_scheduled_activation_is_recorded_with_its_own_instant_and_no_reason() -> None:
    now = START + 30 * DAY + 5 * SECOND
    ring = version(FIRST.published([public("c")], POLICY, now), 2, now)
    assert recorded(FIRST, ring) == [
        ("activated", "b", START + 30 * DAY, None),
        ("published", "c", now, None),
    ]


def test_an_activation_is_recorded_once() -> None:
    second = version(FIRST, 2, START + 30 * DAY)
    assert [action for action, *_ in recorded(FIRST, second)] == ["activated"]
    assert recorded(second, version(second, 3, START + 31 * DAY)) == []


def test_a_manual_rotation_and_its_rollback_are_recorded_with_their_reason() -> None:
    now = START + DAY
    second = version(FIRST.promoted(POLICY, now), 2, now)
    assert recorded(FIRST, second) == [("activated", "b", now, "why")]
    third = version(second.rolled_back(POLICY, now + SECOND), 3, now + SECOND)
    assert recorded(second, third) == [("activated", "a", now + SECOND, "why")]


def test_a_revocation_and_its_successor_are_recorded() -> None:
    now = START + DAY
    ring = version(FIRST.revoked("a", "stolen", POLICY, now, compromised=True), 2, now)
    assert recorded(FIRST, ring) == [
        ("revoked", "a", now, "compromised: stolen"),
        ("activated", "b", now, "why"),
    ]


def test_an_import_is_recorded_with_its_source() -> None:
    ring = version(FIRST.imported(public("c"), POLICY, START + DAY), 2, START + DAY)
    assert recorded(FIRST, ring) == [("imported", "c", START + DAY, "why")]


def test_a_key_found_to_be_compromised_after_it_was_revoked_is_recorded_again() -> None:
    now = START + DAY
    second = version(FIRST.revoked("b", "unwanted", POLICY, now), 2, now)
    third = version(second.revoked("b", "on the internet", POLICY, now + DAY, compromised=True), 3, now + DAY)
    assert recorded(second, third) == [("revoked", "b", now + DAY, "compromised: on the internet")]


def test_a_key_revoked_before_its_activation_is_never_recorded_as_activated() -> None:
    now = START + DAY
    ring = version(FIRST.revoked("b", "unwanted", POLICY, now), 2, now)
    assert [action for action, *_ in recorded(FIRST, ring)] == ["revoked"]
    later = version(ring, 3, START + 31 * DAY)
    assert recorded(ring, later) == []


def test_a_retired_key_is_recorded_when_the_ring_drops_it() -> None:
    now = START + DAY
    second = version(FIRST.promoted(POLICY, now), 2, now)
    gone = now + timedelta(minutes=12)
    assert recorded(second, version(second.maintained(POLICY, gone), 3, gone)) == [
        ("retired", "a", gone, None)
    ]
