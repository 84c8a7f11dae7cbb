"""ID tokens that come back as hints: however old, after rotations and moves, but never of a revoked key."""

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select, update
from support.authorizing import an_app, sign_in
from support.defaults import Build, MovableClock

from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.keyring.retired_keys import RETIRED_KEPT, RetiredKeys, retired_public_keys
from issuer.maintenance.move import Move, Place
from issuer.maintenance.pruning import prune
from issuer.services import Issuer
from issuer.sessions.logout_notices import LogoutNotice
from issuer.settings.settings import Settings
from issuer.tokens.hints import Hint
from issuer.tokens.signed_jwt import ID_TOKEN, JwtSigner


@pytest.fixture
def hint(web: TestClient, issuer: Issuer, alice: str) -> tuple[str, Hint]:
    """An id_token, and what it says."""
    session, app = sign_in(web, issuer, alice), an_app(issuer)
    token = app.redeems(web, app.code(web)).json()["id_token"]
    return token, Hint(alice, issuer.sessions.store.sid(session, app.client_id), app.client_id)


def kids(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(select(retired_public_keys.c.kid)))


def retire_the_current_key(issuer: Issuer, clock: MovableClock) -> str:
    """Rotate, and wait until the ring no longer holds the key that signed."""
    kid = issuer.keys.rotation.ring().current(clock()).kid
    issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now, forced=True), "a test")
    clock.now += issuer.policy.retention + timedelta(seconds=1)
    issuer.keys.node.refresh()
    assert kid not in {key.kid for key in issuer.keys.node.view.ring.keys}
    return kid


def test_an_expired_id_token_is_read(issuer: Issuer, clock: MovableClock, hint: tuple[str, Hint]) -> None:
    token, expected = hint
    assert issuer.tokens.hints.read(token, clock()) == expected
    clock.advance(hours=1)
    issuer.keys.node.refresh()
    assert issuer.tokens.hints.read(token, clock()) == expected


def test_an_id_token_of_a_retired_key_is_read_for_thirteen_months(
    issuer: Issuer, clock: MovableClock, hint: tuple[str, Hint]
) -> None:
    token, expected = hint
    kid = retire_the_current_key(issuer, clock)
    assert kids(issuer.database) == {kid}
    assert issuer.tokens.hints.read(token, clock()) == expected
    clock.now += RETIRED_KEPT - timedelta(days=1)
    prune(issuer.database, clock())
    assert kid in kids(issuer.database)
    clock.advance(days=2)
    prune(issuer.database, clock())
    assert kid not in kids(issuer.database)
    issuer.keys.node.refresh()
    with pytest.raises(ValueError, match="not valid"):
        issuer.tokens.hints.read(token, clock())


def test_an_id_token_of_a_revoked_key_is_never_read(
    issuer: Issuer, clock: MovableClock, hint: tuple[str, Hint]
) -> None:
    kid = issuer.keys.rotation.ring().current(clock()).kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "a test", issuer.policy, now))
    issuer.keys.node.refresh()
    with pytest.raises(ValueError, match="not valid"):
        issuer.tokens.hints.read(hint[0], clock())
    retire_the_current_key(issuer, clock)
    assert kid not in kids(issuer.database)


def test_a_key_that_is_back_in_the_ring_and_revoked_there_is_no_longer_kept(
    issuer: Issuer, clock: MovableClock, hint: tuple[str, Hint]
) -> None:
    """As after a recovery from a checkpoint of a ring that held it."""
    before = issuer.keys.rotation.ring()
    kid = retire_the_current_key(issuer, clock)
    held = before.find(kid)
    issuer.keys.rotation.change(
        lambda ring, now: type(ring)(ring.version, now, (held, *ring.keys), ring.lead).revoked(
            kid, "a test", issuer.policy, now
        )
    )
    assert kid not in kids(issuer.database)
    issuer.keys.node.refresh()
    with pytest.raises(ValueError, match="not valid"):
        issuer.tokens.hints.read(hint[0], clock())


def test_tokens_of_other_types_and_forgeries_are_no_hints(
    web: TestClient, issuer: Issuer, alice: str, clock: MovableClock
) -> None:
    sign_in(web, issuer, alice)
    app = an_app(issuer)
    body = app.redeems(web, app.code(web)).json()
    key = issuer.tokens.jwt_signer.signing_key(clock())
    at = {"created_at": clock(), "due_at": clock()}
    notice = LogoutNotice(
        id="a notice", client_id=app.client_id, user_id=alice, sid="a sid", attempts=0, **at
    )
    logout_token = issuer.sessions.backchannel.token(notice, key, clock())
    other = JwtSigner(
        issuer.keys.signer, lambda: issuer.keys.node.view, issuer.policy, "https://other.example"
    )
    header, payload, signature = body["id_token"].split(".")
    foreign = other.sign(ID_TOKEN, {"iss": "https://other.example"}, key)
    without_sid = issuer.tokens.jwt_signer.sign(ID_TOKEN, {"iss": issuer.settings.url, "sub": alice}, key)
    for text in (
        body["access_token"],
        body["refresh_token"],
        logout_token,
        foreign,
        without_sid,
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload}.",
        "",
        "x" * 10_000,
    ):
        with pytest.raises(ValueError, match="not valid"):
            issuer.tokens.hints.read(text, clock())


def test_a_retired_key_that_somebody_changed_in_the_database_is_reported_and_not_used(
    issuer: Issuer, clock: MovableClock, hint: tuple[str, Hint]
) -> None:
    kid = retire_the_current_key(issuer, clock)
    other = issuer.keys.node.view.ring.current(clock())
    for jwk in ("{}", "[", str(dict(other.jwk)).replace("'", '"')):
        with issuer.database.write() as connection:
            connection.execute(update(retired_public_keys).values(jwk=jwk))
        with pytest.raises(DatabaseDamaged, match=f"the row '{kid}' of retired_public_keys"):
            issuer.tokens.hints.read(hint[0], clock())


def test_hints_of_retired_keys_survive_a_move_to_another_database(
    made: Build,
    settings: Settings,
    issuer: Issuer,
    clock: MovableClock,
    hint: tuple[str, Hint],
    tmp_path: Path,
) -> None:
    token, expected = hint
    kid = retire_the_current_key(issuer, clock)
    issuer.keys.node.leave()
    url = f"sqlite:///{tmp_path}/new.db"
    new = Database(url)
    places = Place(issuer.database, issuer.keys.signer), Place(new, issuer.keys.signer)
    Move(*places, None, issuer.policy, clock, "a test").perform(lambda _table, _rows: None)
    assert kids(new) == {kid}
    new.close()
    moved = made(settings.model_copy(update={"database_url": SecretStr(url)}))
    moved.keys.node.refresh()
    assert moved.tokens.hints.read(token, clock()) == expected


@pytest.mark.parametrize("kid", ["", "\x00", "\ud800", "\x00" * 43, "a" * 4000, "../" * 14 + "a"])
def test_the_kid_of_an_unverified_token_never_fails_in_the_database(
    each_database: Database, kid: str
) -> None:
    with pytest.raises(KeyError):
        RetiredKeys(each_database).find(kid)
