"""Scopes in words."""

from issuer.authorize.scope_texts import in_words
from issuer.tokens.identity import IDENTITY_SCOPES


def test_every_identity_scope_is_a_sentence_and_others_are_shown_by_name() -> None:
    found = in_words(IDENTITY_SCOPES | {"items:write", "items:read"})
    assert [each.scope for each in found] == [
        "openid", "profile", "email", "items:read", "items:write", "offline_access",
    ]  # fmt: skip
    assert {each.scope for each in found if each.text is None} == {"items:read", "items:write"}
