"""Which names and e-mail addresses are accepted."""

import pytest

from issuer.accounts.profile import NO_PROFILE, Profile, require_profile
from issuer.oauth import InvalidRequest


def test_values_are_stored_without_spaces_around_them() -> None:
    profile = require_profile(" Zoë Ångström ", " zoe@mail.example ", email_verified=True)
    assert profile == Profile("Zoë Ångström", "zoe@mail.example", email_verified=True)


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_an_empty_text_is_no_value(empty: str | None) -> None:
    assert require_profile(empty, empty) == NO_PROFILE


@pytest.mark.parametrize("email", ["a@localhost", "o'hara+tag@a-b.example", "x" * 64 + "@mail.example"])
def test_addresses_that_browsers_accept_are_accepted(email: str) -> None:
    assert require_profile(None, email).email == email


@pytest.mark.parametrize(
    "email",
    [
        "alice",
        "@a.example",
        "a@",
        "a b@a.example",
        "a@b@c.example",
        "a@-b.example",
        "a@b..example",
        "a@b.example\nBcc: c@d.example",
        "é@a.example",
        "a@a.example" + "x" * 250,
        "<a@a.example>",
    ],
)
def test_anything_else_is_no_address(email: str) -> None:
    with pytest.raises(InvalidRequest, match="not an e-mail address"):
        require_profile(None, email)


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "a\x1b[2Jb", "a\u202eb"])
def test_a_name_that_cannot_be_displayed_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        require_profile(name, None)


def test_only_an_address_that_is_known_can_be_verified() -> None:
    with pytest.raises(InvalidRequest, match="no e-mail address"):
        require_profile("Alice", None, email_verified=True)
