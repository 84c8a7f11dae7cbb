"""Attributes of users: which names and values are accepted."""

import pytest
from support.stores import user

from issuer.accounts.attributes import changed, parse_attributes
from issuer.accounts.store import AccountStore
from issuer.administration.permissions import set_attributes
from issuer.database.database import Database
from issuer.oauth import InvalidRequest


def test_attributes_are_set_changed_and_removed(each_database: Database) -> None:
    accounts, alice = AccountStore(each_database), user()
    accounts.add(alice)
    stored = set_attributes(accounts, alice, parse_attributes(["department=ops", "team=a=b"]))
    assert stored.attributes == {"department": "ops", "team": "a=b"}
    # By what is stored, not by what the caller has read.
    set_attributes(accounts, alice, parse_attributes(["team=", "site=Zürich"]))
    assert accounts.by_id(alice.id).attributes == {"department": "ops", "site": "Zürich"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    ["x", "=x", "A=x", "a b=x", "x" * 65 + "=y", "sub=x", "roles=x", "email=x", "a=\x1b", "a=" + "x" * 257],
)
def test_names_and_values_that_are_not_accepted(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_attributes([text])


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        parse_attributes(["a=1", "a=2"])


def test_attributes_of_one_user_are_bounded_in_number_and_size() -> None:
    many = {f"a{number}": "x" for number in range(16)}
    assert changed({}, many) == many
    with pytest.raises(InvalidRequest):
        changed(many, {"one_more": "x"})
    assert len(changed(many, {"one_more": "x", "a0": ""})) == 16
    with pytest.raises(InvalidRequest):
        changed({}, {f"a{number}": "x" * 256 for number in range(5)})
