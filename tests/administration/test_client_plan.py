"""What registering a file of clients changes: nothing that is as declared, and no secret without need."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.stores import NOW

from issuer.administration.client_file import read_clients
from issuer.administration.client_plan import PlannedClient, Step, new_secrets, planned
from issuer.clients.client import Client
from issuer.errors import Refused
from issuer.oauth import AuthMethod, GrantType
from issuer.strict_json import BadDocument

DAY = timedelta(days=1)
OLD, NEW = (hashlib.sha256(text).digest() for text in (b"old", b"new"))
BEFORE = NOW - timedelta(days=9)
SHOP = Client(
    "shop",
    "Shop",
    AuthMethod.BASIC,
    frozenset({"a"}),
    BEFORE,
    secret_digest=OLD,
    grant_types=frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN}),
)
DECLARED = {"name": "Shop", "scope": "a"}


def plan(
    *clients: Mapping[str, object],
    registered: tuple[Client, ...] = (SHOP,),
    used: tuple[str, ...] = (),
    overlap: timedelta = DAY,
    prune: bool = False,
    **members: object,
) -> list[PlannedClient]:
    content = json.dumps({"clients": clients, **members}).encode()
    file = read_clients(content, "https://api.example", NOW, is_json=True)
    return planned(file, registered, used, NOW, overlap=overlap, prune=prune)


def only(*clients: Mapping[str, object], **options: Any) -> PlannedClient:
    (found,) = plan(*clients, **options)
    return found


def test_a_client_that_is_as_declared_is_left_alone_known_by_its_id_or_by_its_name() -> None:
    assert plan(DECLARED) == []
    assert plan({**DECLARED, "client_id": "shop"}) == []
    assert plan({**DECLARED, "secret_sha256": OLD.hex()}) == []
    assert plan(DECLARED, prune=True) == []


def test_a_client_that_is_not_registered_is_added() -> None:
    found = only({"client_id": "other", "name": "Shop"}, secrets_file="x")
    assert (found.step, found.client.id, found.before) == (Step.ADD, "other", None)
    assert [(client.id, bool(secret)) for client, secret in new_secrets([found])] == [("other", True)]
    found = only({"name": "Other", "secret_sha256": NEW.hex()})
    assert (found.step, found.client.secret_digest, found.secret) == (Step.ADD, NEW, None)


def test_a_change_keeps_what_the_file_does_not_say() -> None:
    registered = replace(SHOP, disabled_at=NOW, old_secret_digest=NEW, old_secret_until=NOW + DAY)
    found = only({"client_id": "shop", "name": "Another", "scope": "a b"}, registered=(registered,))
    assert found.step is Step.CHANGE
    assert found.client == replace(registered, name="Another", scope=frozenset({"a", "b"}))
    assert [each.field for each in found.differences] == ["name", "scope"]
    assert list(new_secrets([found])) == []


def test_pkce_stays_required_of_a_client_that_has_used_it() -> None:
    browser = {
        "redirect_uris": ["https://a.example/"],
        "client_id": "shop",
        "requires_pkce": False,
        **DECLARED,
    }
    found = only(browser)
    assert found.client.requires_pkce
    lax = replace(found.client, requires_pkce=False)
    assert plan(browser, registered=(lax,)) == []


def test_another_hash_replaces_the_secret_and_the_old_one_stays_valid_for_a_while() -> None:
    declared = {**DECLARED, "secret_sha256": NEW.hex()}
    found = only(declared)
    after = found.client
    assert (after.secret_digest, after.old_secret_digest, after.old_secret_until) == (NEW, OLD, NOW + DAY)
    assert [(each.field, each.after) for each in found.differences] == [("secret", "replaced")]
    assert OLD.hex() not in repr(found)
    at_once = only(declared, overlap=timedelta(0)).client
    assert (at_once.secret_digest, at_once.old_secret_digest, at_once.old_secret_until) == (NEW, None, None)
    assert plan(declared, registered=(after,)) == []
    third = {**DECLARED, "secret_sha256": hashlib.sha256(b"third").hexdigest()}
    with pytest.raises(Refused, match="--overlap 0"):
        plan(third, registered=(after,))
    assert only(third, registered=(after,), overlap=timedelta(0)).client.old_secret_digest is None


def test_another_method_of_authentication_removes_the_secret_or_makes_one() -> None:
    public = {**DECLARED, "auth": "none", "redirect_uris": ["https://a.example/"]}
    found = only(public)
    assert (found.client.secret_digest, found.secret) == (None, None)
    assert ("secret", "removed") in [(each.field, each.after) for each in found.differences]
    back = only(DECLARED, registered=(found.client,), secrets_file="x")
    assert back.secret
    assert back.client.secret_digest == hashlib.sha256(back.secret.encode()).digest()
    post = only({**DECLARED, "auth": "client_secret_post"})
    assert (post.client.secret_digest, post.secret) == (OLD, None)


def test_a_new_secret_needs_a_file_for_it() -> None:
    public = replace(SHOP, auth_method=AuthMethod.NONE, secret_digest=None)
    for registered in ((), (public,)):
        with pytest.raises(
            BadDocument, match=r"clients\[0\]: needs secret_sha256; or the file needs secrets_file"
        ):
            plan(DECLARED, registered=registered)


def test_clients_that_are_not_in_the_file_are_deleted_only_on_demand() -> None:
    other = replace(SHOP, id="other", name="Other")
    assert plan(DECLARED, registered=(SHOP, other)) == []
    found = only(DECLARED, registered=(SHOP, other), prune=True)
    assert (found.step, found.client, found.differences) == (Step.DELETE, other, [])
    renamed = plan({"name": "Another"}, prune=True, secrets_file="x")
    assert [each.step for each in renamed] == [Step.ADD, Step.DELETE], "a name alone is no other's"


def test_a_name_that_several_clients_have_identifies_none() -> None:
    twins = (SHOP, replace(SHOP, id="other"))
    with pytest.raises(BadDocument, match="2 registered clients have the name 'Shop'; give its client_id"):
        plan(DECLARED, registered=twins)
    assert plan({**DECLARED, "client_id": "other"}, registered=twins) == []


def test_a_client_that_is_meant_by_its_id_and_by_its_name_is_refused() -> None:
    with pytest.raises(BadDocument, match=r"clients\[1\]: another client in the file is shop already"):
        plan({"client_id": "shop", "name": "Another"}, DECLARED)


def test_an_id_that_was_used_is_refused() -> None:
    with pytest.raises(BadDocument, match="no id is used again"):
        plan({"client_id": "gone", "name": "x", "secret_sha256": NEW.hex()}, used=("gone",))
