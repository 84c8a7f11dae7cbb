"""A grant is added by a module and a line in the registry: everything else is derived from it."""

import pytest

from issuer.grants.context import Grant
from issuer.grants.registry import GRANTS
from issuer.oauth import GrantType
from issuer.services import Issuer
from issuer.web.app import create_app
from issuer.web.oauth.token import EXECUTORS


def test_every_grant_type_has_a_grant() -> None:
    assert list(GRANTS) == list(GrantType)


@pytest.mark.parametrize("grant", GRANTS.values(), ids=GRANTS)
def test_every_grant_has_an_executor(grant: Grant) -> None:
    assert grant.workload in EXECUTORS


def test_openapi_describes_the_parameters_of_every_grant(issuer: Issuer) -> None:
    body = create_app(issuer).openapi()["paths"]["/oauth2/token"]["post"]["requestBody"]["content"]
    described = body["application/x-www-form-urlencoded"]["schema"]["properties"]
    assert described["grant_type"]["enum"] == list(GRANTS)
    for grant in GRANTS.values():
        # Their default is an empty value, which counts as omitted.
        assert {name: described[name] for name in grant.parameters} == {
            name: {"default": "", **schema} for name, schema in grant.parameters.items()
        }
