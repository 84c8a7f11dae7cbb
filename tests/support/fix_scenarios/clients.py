"""Scenarios: clients."""

from issuer.administration.clients import register_client
from issuer.fixes import Kind
from issuer.oauth import AuthMethod
from issuer.settings.loading import load_settings
from issuer.wiring import build
from support.fix_scenarios.stage import Stage, scenario


@scenario(Kind.CLIENTS_WITHOUT_RS256)
@scenario(Kind.CLIENT_WITHOUT_PKCE)
def _(stage: Stage) -> None:
    """The keys of the installation are for ES256."""
    issuer = build(load_settings())
    register_client(
        issuer.clients.store,
        "an old application",
        AuthMethod.BASIC,
        frozenset(),
        (),
        issuer.clock(),
        redirect_uris=["https://app.example/callback"],
        requires_pkce=False,
    )
    issuer.close()
