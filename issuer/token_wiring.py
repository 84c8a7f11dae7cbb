"""`tokens_for`: makes the objects around tokens; the part of `wiring` that has the most of them."""

from issuer.authorize.code_store import CodeStore
from issuer.authorize.redeeming import CodeRedemption
from issuer.database.database import Database
from issuer.grants.context import GrantContext
from issuer.grants.pipeline import Pipeline
from issuer.keyring.policy import Policy
from issuer.keyring.retired_keys import RetiredKeys
from issuer.services import Accounts, Clients, Keys, Tokens
from issuer.settings.settings import BadSettings, Settings
from issuer.throttling.guard import Guard
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.bearer import BearerAuthentication
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.families import Sessions as RefreshSessions
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.further_claims import BadClaimsFunction, FurtherClaims, further_claims
from issuer.tokens.group_commit import GroupCommit
from issuer.tokens.hints import Hints
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.introspection import Introspection
from issuer.tokens.refresh import Grace
from issuer.tokens.revocation import Revocation
from issuer.tokens.signed_jwt import JwtSigner
from issuer.tokens.userinfo import UserInfo


def tokens_for(
    settings: Settings,
    policy: Policy,
    database: Database,
    guard: Guard,
    keys: Keys,
    accounts: Accounts,
    clients: Clients,
) -> Tokens:
    """Return what issues, rotates, verifies and revokes tokens; raise BadSettings for ISSUER_CLAIMS."""
    families, events = FamilyStore(database), SessionEventStore(database)
    jwt_signer = JwtSigner(keys.signer, lambda: keys.node.view, policy, settings.url)
    access_tokens = AccessTokens(jwt_signer, has_username=settings.username_claim == "on")
    bearer = BearerAuthentication(accounts.store, families, access_tokens, clients.store)
    grace = Grace(settings.refresh_grace, policy.clock_skew)
    pipeline = Pipeline(
        context=_grant_context(settings, grace, database, access_tokens, accounts, clients),
        authentication=clients.authentication,
        guard=guard,
        sessions=RefreshSessions(families, events, settings.refresh_token_lifetime, grace),
        access_tokens=access_tokens,
        id_tokens=IdTokens(jwt_signer),
        further_claims=_further_claims(settings),
        password_login=settings.password_login == "on",  # noqa: S105 - a switch
    )
    return Tokens(
        jwt_signer=jwt_signer,
        pipeline=pipeline,
        families=families,
        session_events=events,
        group_commit=GroupCommit(families),
        bearer=bearer,
        revocation=Revocation(families, access_tokens),
        introspection=Introspection(
            accounts.store, clients.store, families, access_tokens, clients.entitlements
        ),
        userinfo=UserInfo(bearer, clients.store),
        hints=Hints(jwt_signer, RetiredKeys(database)),
    )


def _further_claims(settings: Settings) -> FurtherClaims:
    try:
        return further_claims(settings.claims)
    except BadClaimsFunction as error:
        raise BadSettings(f"ISSUER_CLAIMS: {error}") from error


def _grant_context(
    settings: Settings,
    grace: Grace,
    database: Database,
    access_tokens: AccessTokens,
    accounts: Accounts,
    clients: Clients,
) -> GrantContext:
    families = FamilyStore(database)
    return GrantContext(
        login=accounts.login,
        families=families,
        codes=CodeRedemption(
            CodeStore(database), accounts.store.by_id, clients.store.require_pkce, families.end
        ),
        signing_key=access_tokens.signing_key,
        resources=clients.resources,
        entitlements=clients.entitlements,
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
        grace=grace,
    )
