"""Files of clients: what their members mean, and which are refused with their place."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.stores import NOW

from issuer.administration.client_file import ClientFile, read_clients
from issuer.oauth import AuthMethod, GrantType, ResponseType
from issuer.strict_json import BadDocument

DEFAULT = "https://api.example"
JWKS = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
SHA256 = hashlib.sha256(b"a secret").hexdigest()
EVERYTHING = {
    "client_id": "shop",
    "name": " Shop ",
    "auth": "client_secret_post",
    "scope": "items:write items:read",
    "audiences": [DEFAULT, "https://billing.example"],
    "grant_types": ["authorization_code"],
    "redirect_uris": ["https://shop.example/callback"],
    "post_logout_redirect_uris": ["https://shop.example/"],
    "backchannel_logout_uri": "https://shop.example/logout",
    "is_trusted": True,
    "requires_pkce": False,
    "requires_par": True,
    "id_token_claims": ["email"],
    "secret_sha256": SHA256,
}


def read(*clients: Mapping[str, object], **members: object) -> ClientFile:
    document = {"clients": clients, **members}
    return read_clients(json.dumps(document).encode(), DEFAULT, NOW, is_json=True)


def test_all_members_are_read() -> None:
    file = read(EVERYTHING, secrets_file="secrets.json")
    (declared,) = file.clients
    client = declared.client
    assert (client.id, client.name, client.auth_method) == ("shop", "Shop", AuthMethod.POST)
    assert client.scope == {"items:read", "items:write"}
    assert client.audiences == (DEFAULT, "https://billing.example")
    assert client.grant_types == {GrantType.AUTHORIZATION_CODE}
    assert client.response_types == {ResponseType.CODE}
    assert client.redirect_uris == ("https://shop.example/callback",)
    assert client.post_logout_redirect_uris == ("https://shop.example/",)
    assert client.backchannel_logout_uri == "https://shop.example/logout"
    assert (client.is_trusted, client.requires_pkce, client.requires_par) == (True, False, True)
    assert client.id_token_claims == ("email",)
    assert client.secret_digest == bytes.fromhex(SHA256)
    assert (declared.has_id, declared.has_hash, declared.secret) == (True, True, None)
    assert file.secrets_file == "secrets.json"


def test_what_is_left_out_is_as_for_a_new_client() -> None:
    first, second = read(
        {"name": "a"}, {"name": "b", "auth": "none", "redirect_uris": ["https://b.example"]}
    ).clients
    assert first.client.grant_types == {GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN}
    assert first.client.auth_method is AuthMethod.BASIC
    assert first.secret
    assert first.client.secret_digest == hashlib.sha256(first.secret.encode()).digest()
    assert not first.has_id
    assert first.client.id != second.client.id
    assert (second.secret, second.client.secret_digest) == (None, None)
    assert second.client.requires_pkce
    assert read().clients == ()


def test_keys_are_in_the_file_or_at_a_url() -> None:
    auth = "private_key_jwt"
    first, second = read(
        {"name": "a", "auth": auth, "jwks": JWKS},
        {"name": "b", "auth": auth, "jwks_uri": "https://b.example/jwks"},
    ).clients
    assert json.loads(first.client.jwks or "") == JWKS
    assert second.client.jwks_uri == "https://b.example/jwks"


def test_secrets_are_not_in_the_representation() -> None:
    (declared,) = read({"name": "a"}).clients
    assert declared.secret
    assert declared.secret not in repr(declared)
    assert SHA256 not in repr(read(EVERYTHING))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": None}, "needs a member name"),
        ({"name": " "}, r"clients\[0\]: a client needs a name"),
        ({"nam": "x"}, r"clients\[0\]\.nam: is unknown"),
        ({"secret": "x"}, r"\.secret: is unknown"),
        ({"client_id": ""}, "client_id: must have 1 to 512"),
        ({"client_id": "two words"}, "client_id: must have 1 to 512"),
        ({"client_id": "é"}, "client_id: must have 1 to 512"),
        ({"client_id": "-x"}, "client_id: must have 1 to 512"),
        ({"client_id": "x" * 513}, "client_id: must have 1 to 512"),
        ({"client_id": "first-party"}, "client_id: is the built-in client"),
        ({"client_id": 7}, "client_id: must be a string"),
        ({"auth": "bogus"}, "auth: must be one of client_secret_basic"),
        ({"scope": 'a"b'}, "scope: scope is a list"),
        ({"scope": ["a"]}, "scope: must be a string"),
        ({"scope": "s" * 2001}, "scope: a scope has at most"),
        ({"audiences": DEFAULT}, "audiences: must be a list"),
        ({"audiences": ["nourl"]}, "audiences: the audience 'nourl'"),
        ({"grant_types": ["bogus"]}, r"grant_types\[0\]: must be one of"),
        ({"grant_types": ["password"]}, "built-in client only"),
        ({"grant_types": []}, "needs a grant"),
        ({"redirect_uris": ["http://shop.example"]}, "the redirect URI 'http://shop.example'"),
        ({"redirect_uris": []}, "needs a redirect URI"),
        ({"backchannel_logout_uri": "http://shop.example"}, "back-channel"),
        ({"is_trusted": "maybe"}, "is_trusted: must be true or false"),
        ({"id_token_claims": ["sub"]}, "'sub' of id_tokens must be one of"),
        ({"jwks": JWKS}, "needs jwks or jwks_uri, and nothing else"),
        ({"auth": "private_key_jwt", "secret_sha256": None}, "needs jwks or jwks_uri"),
        ({"auth": "private_key_jwt", "jwks": {}, "secret_sha256": None}, "jwks: it is not a JWKS"),
        ({"auth": "private_key_jwt", "jwks": {"keys": [{"d": "x"}]}}, "jwks: it holds a private"),
        ({"auth": "private_key_jwt", "jwks_uri": "ftp://x", "secret_sha256": None}, "jwks_uri must be"),
        ({"auth": "none", "requires_pkce": True}, "secret_sha256: a client with auth none has no secret"),
        ({"secret_sha256": SHA256.upper()}, "secret_sha256: must be 64 hexadecimal"),
        ({"secret_sha256": "a secret"}, "secret_sha256: must be 64 hexadecimal"),
    ],
)
def test_values_are_refused_as_for_a_new_client_with_their_place(
    changes: Mapping[str, object], reason: str
) -> None:
    client = {name: value for name, value in {**EVERYTHING, **changes}.items() if value is not None}
    with pytest.raises(BadDocument, match=reason) as refused:
        read(client)
    assert str(refused.value).startswith("line 1, clients")


def test_the_document_has_a_list_of_clients_and_perhaps_a_file_for_secrets() -> None:
    for text, reason in (
        ("[]", "must be an object"),
        ("{}", "needs a member clients"),
        ("clients: {}", "clients: must be a list"),
        ("clients: [x]", r"clients\[0\]: must be an object"),
        ("clients: []\nsecrets_file: ''", "line 2, secrets_file: is empty"),
        ("clients: []\nmore: x", "line 2, more: is unknown; known are clients, secrets_file"),
    ):
        with pytest.raises(BadDocument, match=reason):
            read_clients(text.encode(), DEFAULT, NOW, is_json=False)


def test_a_client_is_in_the_file_once_by_its_id_and_by_a_name_that_identifies_it() -> None:
    with pytest.raises(BadDocument, match="has the client_id a"):
        read({"client_id": "a", "name": "x"}, {"client_id": "a", "name": "y"})
    pairs: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
        ({}, {}),
        ({"client_id": "a"}, {}),
        ({}, {"client_id": "a"}),
    )
    for clients in pairs:
        with pytest.raises(BadDocument, match="has the name 'x'; give both a client_id"):
            read(*({"name": "x", **client} for client in clients))
    assert len(read({"client_id": "a", "name": "x"}, {"client_id": "b", "name": "x"}).clients) == 2


def test_the_names_of_members_are_those_that_commands_print() -> None:
    source = Path(__file__).parents[2] / "issuer" / "cli" / "client_view.py"
    printed = source.read_text("utf-8")
    assert [name for name in EVERYTHING if f'"{name}"' not in printed] == ["secret_sha256"]
