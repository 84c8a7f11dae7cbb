"""Many requests with one authorization code at the same time, at two nodes: the database grants one of them."""

from concurrent.futures import ThreadPoolExecutor

from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.authorizing import CALLBACK, VERIFIER, an_app, sign_in
from support.defaults import ALICE, Build, MovableClock

from issuer.clock import system_clock
from issuer.oauth import InvalidGrant, OAuthRequest
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.web.app import create_app


def test_of_many_requests_with_one_code_at_the_same_time_one_is_granted(
    made: Build, settings: Settings, url: str, clock: MovableClock
) -> None:
    clock.now = system_clock()  # PostgreSQL has a clock of its own
    changed = settings.model_copy(update={"database_url": SecretStr(url)})
    one, two = made(changed), made(changed)
    with TestClient(create_app(one)) as web:
        web.post("/users", json=ALICE)
        user = one.accounts.store.by_username("alice")
        assert user
        app = an_app(one)
        sign_in(web, one, user.id)
        code = app.code(web)
        two.keys.node.refresh()
        form = OAuthRequest(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "code_verifier": VERIFIER,
                **app.credentials,
            }
        )

        def redeem(issuer: Issuer) -> bool:
            try:
                return issuer.tokens.pipeline.grant(form, Origin(), issuer.clock()).family is not None
            except InvalidGrant:
                return False

        before = one.tokens.families.count_active(one.clock())
        with ThreadPoolExecutor(20) as pool:
            granted = list(pool.map(redeem, [one, two] * 10))
        assert granted.count(True) == 1
        assert one.tokens.families.count_active(one.clock()) == before + 1
