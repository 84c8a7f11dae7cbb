"""What a client may use is data of the client, within what its authentication allows."""

import pytest

from issuer.clients.client import FIRST_PARTY, Client, default_grants
from issuer.oauth import AuthMethod, GrantType, UnauthorizedClient


def client(auth_method: AuthMethod, *grants: GrantType) -> Client:
    return Client("1", "a client", auth_method, frozenset(), None, grant_types=frozenset(grants))


@pytest.mark.parametrize("grant", GrantType)
def test_a_client_uses_the_grants_that_it_was_given_and_no_others(grant: GrantType) -> None:
    client(AuthMethod.BASIC, grant).require_grant(grant)
    with pytest.raises(UnauthorizedClient):
        client(AuthMethod.BASIC, *set(GrantType) - {grant}).require_grant(grant)


def test_a_public_client_never_gets_tokens_for_itself() -> None:
    with pytest.raises(UnauthorizedClient):
        client(AuthMethod.NONE, *GrantType).require_grant(GrantType.CLIENT_CREDENTIALS)
    assert default_grants(AuthMethod.NONE) == {GrantType.REFRESH_TOKEN}


@pytest.mark.parametrize("method", AuthMethod)
def test_only_the_built_in_client_may_use_passwords(method: AuthMethod) -> None:
    assert GrantType.PASSWORD not in default_grants(method)
    FIRST_PARTY.require_grant(GrantType.PASSWORD)
