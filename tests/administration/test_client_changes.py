"""Changes of registered clients: what is accepted, what is shown, and that none is lost."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from support.authorization import APP, app
from support.stores import NOW

from issuer.administration.client_changes import (
    ClientChanges,
    Difference,
    change_client,
    changed,
    differences,
    narrows,
)
from issuer.administration.clients import renew_secret
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.oauth import AuthMethod, GrantType, InvalidRequest, InvalidScope, ResponseType

MACHINE = app(
    id="a machine",
    grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
    response_types=frozenset(),
    redirect_uris=(),
)
EVERYTHING: dict[str, Any] = {
    "name": "Another",
    "scope": frozenset({"a"}),
    "audiences": ("https://a.example",),
    "redirect_uris": ("https://b.example/",),
    "post_logout_redirect_uris": ("https://b.example/",),
    "backchannel_logout_uri": "https://b.example/logout",
    "grant_types": frozenset({GrantType.AUTHORIZATION_CODE}),
    "is_trusted": True,
    "requires_pkce": False,
    "requires_par": True,
    "id_token_claims": ("email",),
}


def test_what_is_given_replaces_the_whole_value_and_nothing_else_changes() -> None:
    after = changed(APP, ClientChanges(**EVERYTHING))
    assert after == replace(APP, **EVERYTHING)
    assert changed(after, ClientChanges()) == after
    emptied = ClientChanges(
        redirect_uris=("https://c.example/",), post_logout_redirect_uris=(), backchannel_logout_uri=""
    )
    left = changed(after, emptied)
    assert left.redirect_uris == ("https://c.example/",)
    assert (left.post_logout_redirect_uris, left.backchannel_logout_uri) == ((), None)


def test_parts_of_the_scope_are_added_and_removed() -> None:
    changes = ClientChanges(added_scope=frozenset({"c"}), removed_scope=frozenset({"items:read", "unknown"}))
    assert changed(APP, changes).scope == {"items:write", "c"}


def test_response_types_follow_from_the_grants() -> None:
    grants = frozenset({GrantType.CLIENT_CREDENTIALS})
    after = changed(APP, ClientChanges(grant_types=grants, redirect_uris=()))
    assert (after.grant_types, after.response_types) == (grants, frozenset())
    back = ClientChanges(
        grant_types=frozenset({GrantType.AUTHORIZATION_CODE}), redirect_uris=APP.redirect_uris
    )
    assert changed(after, back).response_types == {ResponseType.CODE}


def test_keys_in_a_file_and_keys_at_a_url_replace_each_other() -> None:
    client = app(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks_uri="https://a.example/jwks")
    after = changed(client, ClientChanges(jwks='{"keys": []}'))
    assert (after.jwks, after.jwks_uri) == ('{"keys": []}', None)
    after = changed(after, ClientChanges(jwks_uri="https://b.example/jwks"))
    assert (after.jwks, after.jwks_uri) == (None, "https://b.example/jwks")


@pytest.mark.parametrize(
    ("client", "changes", "reason"),
    [
        (APP, {"redirect_uris": ()}, "needs a redirect URI"),
        (APP, {"redirect_uris": ("https://app.example/*",)}, "no wildcards"),
        (APP, {"post_logout_redirect_uris": ("data:x",)}, "redirect URI 'data:x'"),
        (APP, {"backchannel_logout_uri": "http://app.example/"}, "back-channel"),
        (APP, {"grant_types": frozenset({GrantType.PASSWORD})}, "built-in client only"),
        (APP, {"grant_types": frozenset({GrantType.CLIENT_CREDENTIALS})}, "for clients with the"),
        (APP, {"name": " "}, "needs a name"),
        (APP, {"id_token_claims": ("sub",)}, "'sub' of id_tokens must be one of"),
        (APP, {"jwks": "{}"}, "it authenticates by client_secret_basic"),
        (MACHINE, {"is_trusted": True}, "authorization_code"),
        (app(auth_method=AuthMethod.NONE), {"requires_pkce": False}, "must use PKCE"),
    ],
)
def test_the_rules_are_those_for_new_clients(client: Client, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        changed(client, ClientChanges(**changes))


def test_a_scope_that_would_make_tokens_too_long_is_refused_also_if_it_is_added_in_parts() -> None:
    half = changed(APP, ClientChanges(added_scope=frozenset({"a" * 1500})))
    with pytest.raises(InvalidScope, match="at most"):
        changed(half, ClientChanges(added_scope=frozenset({"b" * 1500})))


def test_differences_name_the_field_and_both_values_but_no_secret() -> None:
    after = replace(changed(APP, ClientChanges(**EVERYTHING)), secret_digest=b"x" * 32)
    found = {each.field: each for each in differences(replace(APP, secret_digest=b"y" * 32), after)}
    assert found["scope"] == Difference("scope", "items:read items:write", "a")
    assert found["is_trusted"] == Difference("is_trusted", "no", "yes")
    assert found["secret"] == Difference("secret", "set", "replaced")
    assert found.keys() == {*EVERYTHING, "secret"}
    assert differences(APP, APP) == []
    assert {each.field for each in differences(None, APP)} >= {"name", "auth", "scope", "redirect_uris"}


def test_a_change_of_keys_shows_their_number_and_the_beginning_of_a_digest() -> None:
    client = app(auth_method=AuthMethod.PRIVATE_KEY_JWT, jwks='{"keys": [{"kty": "OKP"}]}')
    (found,) = differences(client, replace(client, jwks='{"keys": [1, 2]}'))
    assert found.field == "jwks"
    assert found.before.startswith("1 key, SHA-256 ")
    assert found.after.startswith("2 keys, SHA-256 ")


@pytest.mark.parametrize(
    ("before", "changes", "expected"),
    [
        (APP, {"removed_scope": frozenset({"items:read"})}, True),
        (APP, {"audiences": ("https://a.example",)}, True),
        (APP, {"grant_types": frozenset({GrantType.AUTHORIZATION_CODE})}, True),
        (app(is_trusted=True), {"is_trusted": False}, True),
        (APP, {"is_trusted": True, "added_scope": frozenset({"c"}), "name": "Another"}, False),
    ],
)
def test_sessions_may_hold_more_after_some_changes(
    before: Client, changes: dict[str, Any], expected: bool
) -> None:
    assert narrows(before, changed(before, ClientChanges(**changes))) is expected


# Stored


def test_a_change_is_stored_and_returned_with_what_was_before(each_database: Database) -> None:
    store = ClientStore(each_database)
    store.add(APP)
    before, after = change_client(each_database, APP.id, ClientChanges(**EVERYTHING), NOW)
    assert (before, after) == (APP, replace(APP, **EVERYTHING, refresh_removed_at=NOW))
    assert store.by_id(APP.id) == after
    with pytest.raises(LookupError):
        change_client(each_database, "unknown", ClientChanges(name="x"), NOW)
    with pytest.raises(InvalidRequest):
        change_client(each_database, APP.id, ClientChanges(redirect_uris=()), NOW)
    assert store.by_id(APP.id) == after


def test_of_changes_at_the_same_time_none_is_lost(each_database: Database) -> None:
    store = ClientStore(each_database)
    store.add(replace(APP, requires_pkce=False))

    def change(number: int) -> None:
        if number == 0:
            store.require_pkce(APP.id)
        elif number == 1:
            client = store.by_id(APP.id)
            assert client
            store.set_disabled(APP.id, NOW)
        else:
            change_client(each_database, APP.id, ClientChanges(added_scope=frozenset({f"s{number}"})), NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(12)))
    client = store.by_id(APP.id)
    assert client
    assert client.scope == APP.scope | {f"s{number}" for number in range(2, 12)}
    assert (client.requires_pkce, client.disabled_at) == (True, NOW)


def test_a_change_leaves_a_secret_that_was_renewed_meanwhile(each_database: Database) -> None:
    store = ClientStore(each_database)
    store.add(replace(APP, secret_digest=b"x" * 32))
    client = store.by_id(APP.id)
    assert client
    renewed, _ = renew_secret(store, client, NOW - NOW, NOW)
    change_client(each_database, APP.id, ClientChanges(name="Another"), NOW)
    assert store.by_id(APP.id) == replace(renewed, name="Another")
