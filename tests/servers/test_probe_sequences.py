"""Probes from outside of several requests: what follows from them, and what happens if many come at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx2
import jwt
import pytest
from support.probe_target import (
    AT_ONCE,
    GRANT,
    REVOKE,
    TOKEN,
    Target,
    forged,
)
from support.servers import PATIENCE_SECONDS

REFUSED = {400, 429}
"""Whoever comes too late with a refresh token; from one address so many are more than may guess without waiting."""

ENTROPY_BITS = 128

LONGEST_LIFE_SECONDS = 3600

Story = Callable[[Target], bool]


def revoked(target: Target, kind: str, hint: str | None = None) -> dict[str, Any]:
    """Return the tokens of a session that ended by revoking one of them."""
    body = target.log_in()
    form = {"token": body[kind], "client_id": "first-party", **({"token_type_hint": hint} if hint else {})}
    assert target.send(REVOKE, form).status_code == httpx2.codes.OK
    return body


def both_dead(target: Target, tokens: dict[str, Any]) -> bool:
    answer = target.refresh(tokens["refresh_token"])
    me = target.http.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    return (
        answer.json().get("error") == "invalid_grant"
        and me.status_code == httpx2.codes.UNAUTHORIZED
        and not target.is_active(tokens["access_token"])
    )


def ends_nothing(target: Target, client: tuple[str, str], kind: str) -> bool:
    """Return whether a session outlives that another client tries to revoke it."""
    body = target.log_in()
    target.send(REVOKE, {"token": body[kind]}, client)
    return target.is_active(body["access_token"]) and target.refresh(body["refresh_token"]).is_success


def rotates(target: Target) -> bool:
    first = target.log_in()["refresh_token"]
    second = target.refresh(first).json()["refresh_token"]
    third = target.refresh(second).json()["refresh_token"]
    return len({first, second, third}) == 3


def narrows(target: Target) -> bool:
    first = target.log_in()["refresh_token"]
    second = target.refresh(first, scope="items:read").json()
    third = target.refresh(second["refresh_token"]).json()
    return (second["scope"], third["scope"]) == ("items:read", "items:read items:write")


def failed_refresh_uses_nothing_up(target: Target) -> bool:
    token = target.log_in()["refresh_token"]
    target.refresh(token, scope="admin")
    target.refresh(token, resource="https://elsewhere.example")
    target.refresh(token, client_id="unknown")
    return "refresh_token" in target.refresh(token).json()


def grandparent_is_a_repeat(target: Target) -> bool:
    """Within the grace each used token yields its own successor, and no second line begins."""
    first = target.log_in()["refresh_token"]
    second = target.refresh(first).json()["refresh_token"]
    third = target.refresh(second).json()["refresh_token"]
    again = target.refresh(first).json()["refresh_token"]
    return bool(again == second and target.refresh(again).json()["refresh_token"] == third)


def logged_out(target: Target) -> bool:
    body = target.log_in()
    target.http.post("/logout", headers={"Authorization": f"Bearer {body['access_token']}"})
    return both_dead(target, body)


def short_lived(target: Target) -> bool:
    claims = [
        jwt.decode(each["access_token"], options={"verify_signature": False})
        | {"expires_in": each["expires_in"]}
        for each in (target.log_in(), target.machine_token())
    ]
    return all(0 < each["exp"] - each["iat"] == each["expires_in"] <= LONGEST_LIFE_SECONDS for each in claims)


def unlike_each_other(target: Target) -> bool:
    access = [target.machine_token()["access_token"] for _ in range(20)]
    refresh = [target.log_in()["refresh_token"] for _ in range(10)]
    jtis = {jwt.decode(each, options={"verify_signature": False})["jti"] for each in access}
    return len(set(access)) == len(jtis) == 20 and len(set(refresh)) == 10


def long_enough(target: Target) -> bool:
    """Return whether each random part can hold its entropy, and no two begin alike, RFC 6749 section 10.10."""
    refresh = [target.log_in()["refresh_token"] for _ in range(10)]
    refresh += [target.refresh(each).json()["refresh_token"] for each in refresh]
    jtis = [
        jwt.decode(target.machine_token()["access_token"], options={"verify_signature": False})["jti"]
        for _ in range(10)
    ]
    return all(len(each) * 6 >= ENTROPY_BITS for each in [*refresh, *jtis]) and all(
        len({each[:6] for each in made}) == len(made) for made in (refresh, jtis)
    )


STORIES: dict[str, Story] = {
    "each refresh yields another refresh token": rotates,
    "a refused refresh uses nothing up": failed_refresh_uses_nothing_up,
    "a refresh may narrow the scope for one access token, and not for good": narrows,
    "an older token within the grace starts no second line": grandparent_is_a_repeat,
    "revoking the refresh token ends the session": lambda it: both_dead(it, revoked(it, "refresh_token")),
    "revoking the access token ends the session": lambda it: both_dead(it, revoked(it, "access_token")),
    "a wrong hint does not keep a token from being revoked": lambda it: both_dead(
        it, revoked(it, "refresh_token", "access_token")
    ),
    "another client's revocation of a refresh token ends nothing": lambda it: ends_nothing(
        it, it.machine, "refresh_token"
    ),
    "another client's revocation of an access token ends nothing": lambda it: ends_nothing(
        it, it.machine, "access_token"
    ),
    "a log-out ends the session": logged_out,
    "access tokens live an hour at most, and as long as the response says": short_lived,
    "no two tokens are alike": unlike_each_other,
    "tokens are as long as their entropy needs": long_enough,
    "a live access token is active": lambda it: it.is_active(it.log_in()["access_token"]),
    "a token that nobody signed is not active": lambda it: not it.is_active(forged(it, alg="none")),
    "another client's refresh token is not active": lambda it: not it.is_active(it.log_in()["refresh_token"]),
    "machines get no refresh token": lambda it: "refresh_token" not in it.machine_token(),
    "a machine gets the scope it was granted": lambda it: it.machine_token()["scope"] == "items:read",
    "access tokens are as RFC 9068 has them": lambda it: (
        jwt.get_unverified_header(it.log_in()["access_token"])["typ"] == "at+jwt"
    ),
    "wrong and unknown clients get the same response": lambda it: (
        it.send(TOKEN, GRANT, (it.machine[0], "wrong")).content
        == it.send(TOKEN, GRANT, ("unknown", "x")).content
    ),
}


@pytest.mark.parametrize("what", STORIES)
def test_a_sequence_ends_as_required(target: Target, what: str) -> None:
    assert STORIES[what](target)


def at_once(act: Callable[[int], httpx2.Response]) -> list[httpx2.Response]:
    """Let a crowd act, each on a connection that is open already, all in the same moment."""
    start = Barrier(AT_ONCE)

    def wait_and_act(number: int) -> httpx2.Response:
        start.wait(PATIENCE_SECONDS)
        return act(number)

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        return list(crowd.map(wait_and_act, range(AT_ONCE)))


@pytest.mark.parametrize("_round", range(3))
def test_redeemed_by_many_at_once_a_refresh_token_has_one_successor_in_one_session_for_two_of_them(
    target: Target, _round: int
) -> None:
    at_once(lambda _: target.http.get("/healthz"))
    first = target.log_in()
    answers = at_once(lambda _: target.refresh(first["refresh_token"]))
    granted = [answer.json() for answer in answers if answer.status_code == httpx2.codes.OK]
    refused = [answer for answer in answers if answer.status_code != httpx2.codes.OK]
    assert {(answer.status_code, answer.json()["error"]) for answer in refused} == {(400, "invalid_grant")}
    (successor,) = {each["refresh_token"] for each in granted}
    claims = [jwt.decode(each["access_token"], options={"verify_signature": False}) for each in granted]
    assert len({each["jti"] for each in claims}) == len(granted) == 2
    assert len({each["grant_id"] for each in claims}) == 1
    assert target.refresh(successor).status_code == 200


def test_a_revocation_during_many_refreshes_ends_the_session_for_all(target: Target) -> None:
    first = target.log_in()

    def act(number: int) -> httpx2.Response:
        if number == AT_ONCE // 2:
            return target.send(REVOKE, {"token": first["refresh_token"], "client_id": "first-party"})
        return target.refresh(first["refresh_token"])

    answers = at_once(act)
    assert {answer.status_code for answer in answers} <= {200, *REFUSED}
    successors = [answer.json() for answer in answers if answer.content and answer.is_success]
    assert len({each["refresh_token"] for each in successors}) <= 1
    for each in [first, *successors[:1]]:
        assert target.refresh(each["refresh_token"]).status_code in REFUSED
        assert not target.is_active(each["access_token"])
