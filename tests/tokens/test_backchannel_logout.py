"""Back-channel logout: when a notice is sent again, and what becomes of it when the client fails."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import jwt
import pytest
from sqlalchemy import text, update
from support.defaults import START, Build, MovableClock
from support.logout_receiver import Answer, LogoutReceiver, logout_receiver
from support.signing_out import application
from support.stores import user

from issuer.audit.chain import Action
from issuer.clients.client import Client
from issuer.clients.store import clients
from issuer.database.work_queue import Round
from issuer.oauth import Unavailable
from issuer.services import Issuer
from issuer.sessions.logout_notices import LogoutNotice
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.tokens.backchannel_logout import AT_ONCE

DELIVERED, FAILED, GIVEN_UP, NOTHING = Round(delivered=1), Round(failed=1), Round(given_up=1), Round()
DAY = 24 * 3600

Deliver = Callable[[float], Round]
EndSession = Callable[[Client], str]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issuer.clients.outgoing_http.EXCHANGE_SECONDS", 1.0)


@pytest.fixture
def receiver() -> Iterator[LogoutReceiver]:
    with logout_receiver() as server:
        yield server


@pytest.fixture
def client(issuer: Issuer, receiver: LogoutReceiver) -> Client:
    return application(issuer, backchannel=receiver.url)


@pytest.fixture
def end_session(issuer: Issuer) -> EndSession:
    """Sign a new user in at a client and out again; return the id of the user."""

    def end(client: Client) -> str:
        owner = user(f"user-{uuid.uuid4()}")
        issuer.accounts.store.add(owner)
        started = issuer.sessions.store.start(owner.id, None, "1", ("pwd",), Origin(), START)
        assert started
        issuer.sessions.store.sid(started[0], client.id)
        issuer.sessions.sign_out.end(started[0], START)
        return owner.id

    return end


@pytest.fixture
def deliver(issuer: Issuer, clock: MovableClock) -> Deliver:
    """Run the round that is due some seconds after the start, on a node whose background tasks do not run."""

    def run(seconds: float) -> Round:
        clock.now = START + timedelta(seconds=seconds)
        issuer.keys.node.refresh()
        return issuer.sessions.backchannel.deliver_due(clock())

    return run


@pytest.mark.parametrize("answer", [Answer.ACCEPT, Answer.NO_CONTENT])
def test_a_notice_that_was_accepted_is_not_sent_again(
    client: Client, receiver: LogoutReceiver, answer: Answer, end_session: EndSession, deliver: Deliver
) -> None:
    receiver.answer = answer
    end_session(client)
    assert deliver(0) == DELIVERED
    assert deliver(DAY) == NOTHING
    assert receiver.received.qsize() == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer.REFUSE,
        Answer.FAIL,
        Answer.REDIRECT,
        Answer.HANG,
        Answer.DRIP,
        Answer.FLOOD,
        Answer.GARBAGE,
    ],
)
def test_a_client_that_fails_is_told_later(
    client: Client, receiver: LogoutReceiver, answer: Answer, end_session: EndSession, deliver: Deliver
) -> None:
    receiver.answer = answer
    end_session(client)
    assert deliver(0) == FAILED
    assert receiver.received.qsize() == 1, "redirects are not followed"
    assert deliver(4) == NOTHING
    receiver.answer = Answer.ACCEPT
    assert deliver(5) == DELIVERED
    first, second = receiver.next(), receiver.next()
    assert first.form != second.form, "each attempt has a token of its own"


def test_a_notice_is_sent_four_times_and_then_recorded_in_the_audit_log(
    client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver, issuer: Issuer
) -> None:
    receiver.answer = Answer.FAIL
    end_session(client)
    for seconds, expected in ((0, FAILED), (5, FAILED), (35, FAILED), (334, NOTHING), (335, GIVEN_UP)):
        assert deliver(seconds) == expected, seconds
    assert deliver(DAY) == NOTHING
    assert receiver.received.qsize() == 4
    links, _ = issuer.keys.audit.chain()
    entry = links[-1].entry
    assert entry.action == Action.LOGOUT_UNDELIVERED
    assert (
        entry.reason
        == f"client {client.id} was not told of 1 ended sessions; last attempt: the answer is 500"
    )


def test_a_server_that_is_not_there_is_a_failure(
    issuer: Issuer, end_session: EndSession, deliver: Deliver
) -> None:
    with logout_receiver() as gone:
        url = gone.url
    end_session(application(issuer, backchannel=url))
    end_session(application(issuer, backchannel="https://no-such-host.invalid/"))
    assert deliver(0) == Round(failed=2)


def test_a_client_that_fails_delays_no_other(
    issuer: Issuer, client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver
) -> None:
    receiver.answer = Answer.HANG
    with logout_receiver() as sound:
        for each in (client, application(issuer, backchannel=sound.url), client):
            end_session(each)
        assert deliver(0) == Round(delivered=1, failed=2)


def test_first_attempts_come_before_repeated_ones(
    issuer: Issuer, client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver
) -> None:
    receiver.answer = Answer.FAIL
    for _ in range(AT_ONCE):
        end_session(client)
    assert deliver(0) == Round(failed=AT_ONCE, is_full=True)
    with logout_receiver() as sound:
        end_session(application(issuer, backchannel=sound.url))
        sent = deliver(5)
        assert sent == Round(delivered=1, failed=AT_ONCE - 1, is_full=True)


@pytest.mark.parametrize(
    "change", [{"disabled_at": START}, {"backchannel_logout_uri": None}, {"id": "removed"}]
)
def test_a_notice_for_a_client_that_is_no_longer_told_is_dropped(
    client: Client,
    receiver: LogoutReceiver,
    end_session: EndSession,
    deliver: Deliver,
    change: dict[str, object],
    issuer: Issuer,
) -> None:
    end_session(client)
    with issuer.database.write() as connection:
        connection.execute(update(clients).values(change))
    assert deliver(0) == NOTHING
    assert receiver.received.empty()
    assert not issuer.sessions.notices.is_any_due(START + timedelta(days=1))


def test_a_notice_whose_last_attempt_was_interrupted_is_given_up(
    client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver, issuer: Issuer
) -> None:
    end_session(client)
    for seconds in (0, 5, 35, 335):  # by processes that ended before they sent it
        issuer.sessions.notices.claim(START + timedelta(seconds=seconds), 1)
    assert deliver(DAY) == GIVEN_UP
    assert receiver.received.empty()


def test_a_damaged_notice_does_not_delay_others_and_is_removed(
    client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver, issuer: Issuer
) -> None:
    damaged, _sound = end_session(client), end_session(client)
    with issuer.database.write() as connection:
        change = text("UPDATE logout_notices SET attempts = 'x' WHERE user_id = :user")
        connection.execute(change, {"user": damaged})
    assert deliver(0) == DELIVERED
    assert not issuer.sessions.notices.is_any_due(START + timedelta(days=1))


def test_a_node_that_cannot_sign_counts_no_attempt(
    client: Client, receiver: LogoutReceiver, end_session: EndSession, deliver: Deliver, issuer: Issuer
) -> None:
    end_session(client)
    issuer.keys.node.refresh()
    with pytest.raises(Unavailable):  # its view of the ring is too old
        issuer.sessions.backchannel.deliver_due(START + timedelta(days=1))
    assert deliver(0) == DELIVERED


def test_a_logout_token_expires_before_its_key_leaves_the_jwks(made: Build, settings: Settings) -> None:
    short = made(settings.model_copy(update={"access_token_lifetime": timedelta(minutes=1)}))
    short.keys.node.refresh()
    key = short.tokens.jwt_signer.signing_key(START)
    notice = LogoutNotice(
        id="n", client_id="c", user_id="u", sid="s", created_at=START, attempts=1, due_at=START
    )
    claims = jwt.decode(
        short.sessions.backchannel.token(notice, key, START), options={"verify_signature": False}
    )
    assert claims["exp"] - claims["iat"] == 60


def test_the_token_is_not_in_the_log(
    client: Client,
    receiver: LogoutReceiver,
    end_session: EndSession,
    deliver: Deliver,
    capsys: pytest.CaptureFixture[str],
) -> None:
    receiver.answer = Answer.FAIL
    end_session(client)
    deliver(0)
    logged = "".join(capsys.readouterr())
    assert client.id in logged
    assert receiver.next().form["logout_token"][0] not in logged
