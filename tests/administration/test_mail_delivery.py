"""Mails to users, from the occasion to a real SMTP server, on both databases: whom they go to, and what is stored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, select, text
from structlog.testing import capture_logs
from support.defaults import PASSWORD, START, Build, MovableClock
from support.mail_server import MailServer, link_in, mail_server, text_of
from support.mailing import FROM, a_user, deliver, sending
from support.postgresql import temporary_database

from issuer.accounts.profile import Profile
from issuer.accounts.user import User, VerifiedPassword
from issuer.administration.account_deletion import delete_account
from issuer.administration.users import change_profile
from issuer.database.database import Database
from issuer.database.work_queue import Round
from issuer.mail.outbox import (
    ATTEMPTS_MOST,
    DUE_MOST,
    NOTICES_MOST,
    OF_ACCOUNT_MOST,
    WAITS,
    MailKind,
    Outbox,
    mails,
)
from issuer.maintenance.pruning import MAILS_KEPT, prune
from issuer.oauth import LoginFailed, TooManyAttempts
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import MAIL, RESET
from issuer.throttling.origin import Origin

HOME = Origin("Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0", "203.0.113.7", device="a" * 43)
NEW = "nine calm bisons whisper"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def issuer(made: Build, settings: Settings, server: MailServer, url: str) -> Issuer:
    changed = settings.model_copy(update={"database_url": SecretStr(url)})
    return made(sending(changed, server))


@pytest.fixture
def alice(issuer: Issuer) -> User:
    return a_user(issuer)


def due(issuer: Issuer) -> list[MailKind]:
    with issuer.database.read() as connection:
        return list(connection.scalars(select(mails.c.kind).order_by(mails.c.created_at)))


def ask(issuer: Issuer, typed: str, address: str = "203.0.113.7") -> None:
    issuer.administration.mails.request_reset(typed, Origin("", address), issuer.clock())


def log_in(issuer: Issuer, origin: Origin = HOME, password: str = PASSWORD) -> None:
    issuer.accounts.login.authenticate("alice", password, origin, issuer.clock(), lambda _: None)


# A forgotten password


@pytest.mark.parametrize("typed", ["alice", "ALICE", "alice@example.com", "Alice@Example.COM"])
def test_a_link_goes_to_the_address_of_the_account_that_was_named(
    issuer: Issuer, alice: User, server: MailServer, typed: str
) -> None:
    ask(issuer, typed)
    assert deliver(issuer) == Round(delivered=1)
    (message,) = server.messages
    assert (message["To"], FROM in str(message["From"])) == ("alice@example.com", True)
    token = link_in(message).partition("token=")[2]
    assert issuer.administration.reset_links.user(token, issuer.clock()) == alice
    assert "within 1 hour" in text_of(message)
    assert due(issuer) == []


@pytest.mark.parametrize(
    "typed", ["bob", "bob@example.com", "carol", "carol@example.com", "dora", "x" * 300, "a\0b"]
)
def test_nothing_is_sent_for_what_is_unknown_not_verified_or_disabled(
    issuer: Issuer, alice: User, server: MailServer, typed: str
) -> None:
    a_user(issuer, "carol", "carol@example.com", is_verified=False)
    dora = a_user(issuer, "dora", "dora@example.com")
    issuer.tokens.families.disable(dora.id, issuer.clock())
    ask(issuer, typed)
    assert deliver(issuer) == Round()
    assert server.messages == []
    assert due(issuer) == []


def test_each_account_of_an_address_gets_a_link_up_to_a_limit(issuer: Issuer, server: MailServer) -> None:
    for number in range(7):
        a_user(issuer, f"alice{number}")
    ask(issuer, "alice@example.com")
    assert deliver(issuer) == Round(delivered=5)


def test_requests_are_stored_alike_whether_the_account_exists_or_not(issuer: Issuer, alice: User) -> None:
    ask(issuer, "alice")
    ask(issuer, "nobody")
    with issuer.database.read() as connection:
        rows = connection.execute(select(mails)).all()
    assert {(row.kind, row.user_id, row.details) for row in rows} == {(MailKind.RESET_REQUEST, None, "{}")}


def test_requests_are_limited_by_address_and_mails_by_account(
    issuer: Issuer, alice: User, server: MailServer, clock: MovableClock
) -> None:
    for number in range(MAIL.free + 3):
        ask(issuer, "alice", f"198.51.100.{number}")
    deliver(issuer)
    assert len(server.messages) == MAIL.free + 1
    for _ in range(RESET.free + 1):
        ask(issuer, "nobody")
    with pytest.raises(TooManyAttempts):
        ask(issuer, "nobody")
    clock.advance(hours=6)
    ask(issuer, "alice")
    deliver(issuer)
    assert len(server.messages) == MAIL.free + 2


# Notices


def test_a_sign_in_from_a_new_device_is_told_once(issuer: Issuer, alice: User, server: MailServer) -> None:
    log_in(issuer)
    log_in(issuer)
    with pytest.raises(LoginFailed):
        log_in(issuer, Origin("", "198.51.100.9"), "wrong")
    assert deliver(issuer) == Round(delivered=1)
    (message,) = server.messages
    assert message["Subject"] == "Sign-in from a new device"
    for part in ("Firefox on Linux", "203.0.113.7", "1 January 2026, 00:00 UTC", "account alice"):
        assert part in text_of(message)
    log_in(issuer, Origin("curl/8", "198.51.100.9", device="b" * 43))
    assert deliver(issuer) == Round(delivered=1)


def test_sign_ins_from_many_new_devices_are_told_a_few_times_an_hour_for_each_account(
    issuer: Issuer, alice: User, clock: MovableClock
) -> None:
    a_user(issuer, "bob", "bob@example.com")

    def log_in_from(network: str, number: int, username: str = "alice") -> None:
        for each in range(number):
            origin = Origin("", f"{network}.{each}")
            issuer.accounts.login.authenticate(username, PASSWORD, origin, clock(), lambda _: None)

    with capture_logs() as logged:
        log_in_from("198.51.100", MAIL.free + 3)
    assert due(issuer) == [MailKind.NEW_DEVICE] * (MAIL.free + 1)
    assert [(line["kind"], line["user"]) for line in logged if line["event"] == "mail not queued"] == [
        (MailKind.NEW_DEVICE, alice.id)
    ] * 2
    log_in_from("198.51.100", 1, "bob")
    assert len(due(issuer)) == MAIL.free + 2
    clock.advance(hours=6)
    log_in_from("203.0.113", 1)
    assert len(due(issuer)) == MAIL.free + 3


def test_a_failure_to_queue_a_notice_does_not_fail_the_sign_in(
    issuer: Issuer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.mail.outbox.NOTICES_MOST", 0)
    log_in(issuer)
    assert due(issuer) == []


def test_nobody_is_told_at_an_address_that_is_not_verified(issuer: Issuer, alice: User) -> None:
    store, mails = issuer.accounts.store, issuer.administration.mails
    change_profile(store, mails, alice, issuer.clock(), email_verified=False)
    log_in(issuer)
    assert due(issuer) == []


def test_a_changed_password_is_told_and_a_first_one_is_not(
    issuer: Issuer, alice: User, server: MailServer
) -> None:
    administration, now = issuer.administration, issuer.clock()
    administration.reset_links.set_password(administration.reset_links.token(alice, now), NEW, now)
    bob = administration.invitations.invite("bob", now)
    administration.reset_links.set_password(administration.reset_links.token(bob, now), NEW, now)
    assert deliver(issuer) == Round(delivered=1)
    assert server.messages[0]["Subject"] == "Your password was changed"


def test_an_address_that_an_operator_changes_gets_a_notice(
    issuer: Issuer, alice: User, server: MailServer
) -> None:
    store, mails = issuer.accounts.store, issuer.administration.mails
    for changes in ({"name": "Alice"}, {"email": "new@example.com"}, {"email": "newer@example.com"}):
        change_profile(store, mails, alice, issuer.clock(), **changes)
    assert deliver(issuer) == Round(delivered=1)
    (message,) = server.messages
    assert (message["Subject"], message["To"]) == ("Your e-mail address was changed", "alice@example.com")


# Invitations


def test_an_invitation_by_mail_proves_the_address(issuer: Issuer, server: MailServer) -> None:
    administration, now = issuer.administration, issuer.clock()
    bob = administration.invitations.invite("bob", now, profile=Profile(None, "bob@example.com"))
    administration.mails.invite(bob, timedelta(days=7), now)
    assert deliver(issuer) == Round(delivered=1)
    (message,) = server.messages
    assert "within 7 days" in text_of(message)
    administration.reset_links.set_password(link_in(message).partition("token=")[2], NEW, now)
    stored = issuer.accounts.store.by_id(bob.id)
    assert stored
    assert (stored.email_verified, stored.invited_at) == (True, None)


def test_a_link_keeps_what_was_changed_while_the_password_was_hashed(
    issuer: Issuer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    administration, accounts, now = issuer.administration, issuer.accounts, issuer.clock()
    change_profile(accounts.store, administration.mails, alice, now, email_verified=False)
    token = administration.reset_links.token(alice, now, proves="alice@example.com")
    hashed = accounts.passwords.hash

    def slow(password: str) -> str:
        change_profile(accounts.store, administration.mails, alice, now, name="Alice Liddell")
        return hashed(password)

    monkeypatch.setattr(accounts.passwords, "hash", slow)
    administration.reset_links.set_password(token, NEW, now)
    stored = accounts.store.by_id(alice.id)
    assert stored
    assert (stored.name, stored.email_verified) == ("Alice Liddell", True)


def test_an_invitation_is_not_sent_to_who_has_a_password_by_then(issuer: Issuer, alice: User) -> None:
    issuer.administration.mails.invite(alice, timedelta(hours=1), issuer.clock())
    assert deliver(issuer) == Round()
    assert due(issuer) == []


# The outbox


def test_no_secret_is_stored_and_nothing_of_a_deleted_user(issuer: Issuer, alice: User) -> None:
    ask(issuer, "alice")
    issuer.administration.mails.password_changed(alice, issuer.clock())
    with issuer.database.read() as connection:
        assert "token" not in repr(connection.execute(select(mails)).all())
    assert delete_account(issuer.database, alice.id, VerifiedPassword(alice.password_hash), issuer.clock())
    issuer.administration.mails.new_device(alice, HOME, issuer.clock())
    assert due(issuer) == [MailKind.RESET_REQUEST]
    assert deliver(issuer) == Round()


def test_a_failing_server_is_tried_again_and_then_given_up(
    issuer: Issuer, alice: User, server: MailServer, clock: MovableClock
) -> None:
    server.failing = True
    issuer.administration.mails.password_changed(alice, issuer.clock())
    for wait in WAITS:
        assert deliver(issuer) == Round(failed=1)
        assert deliver(issuer) == Round()
        clock.advance(seconds=wait.total_seconds())
    assert deliver(issuer) == Round(given_up=1)
    assert due(issuer) == []
    assert len(WAITS) + 1 == ATTEMPTS_MOST


def test_a_mail_arrives_when_the_server_works_again(
    issuer: Issuer, alice: User, server: MailServer, clock: MovableClock
) -> None:
    server.failing = True
    ask(issuer, "alice")
    assert deliver(issuer) == Round(failed=1)
    server.failing = False
    clock.advance(minutes=2)
    assert deliver(issuer) == Round(delivered=1)


def test_a_refused_recipient_is_given_up_at_once_without_the_others(
    issuer: Issuer, alice: User, server: MailServer
) -> None:
    server.refused = {"alice@example.com": "550"}
    bob = a_user(issuer, "bob", "bob@example.com")
    for user in (alice, bob):
        issuer.administration.mails.password_changed(user, issuer.clock())
    assert deliver(issuer) == Round(delivered=1, given_up=1)
    assert server.recipients() == ["bob@example.com"]


def test_a_mail_that_cannot_be_composed_is_dropped_without_the_others(
    issuer: Issuer, alice: User, server: MailServer
) -> None:
    with issuer.database.write() as connection:
        row = {"id": "x", "kind": MailKind.NEW_DEVICE, "user_id": alice.id, "recipient": "a@example.com"}
        times = {"created_at": issuer.clock(), "attempts": 0, "due_at": issuer.clock()}
        connection.execute(insert(mails).values({**row, **times, "details": "not JSON"}))
    issuer.administration.mails.password_changed(alice, issuer.clock())
    assert deliver(issuer) == Round(delivered=1)
    assert due(issuer) == []


def test_a_mail_is_taken_by_one_process(issuer: Issuer, alice: User, server: MailServer) -> None:
    issuer.administration.mails.password_changed(alice, issuer.clock())
    outbox = Outbox(issuer.database)
    assert len(outbox.claim(issuer.clock(), 10)[0]) == 1
    assert outbox.claim(issuer.clock(), 10) == ([], [])
    assert deliver(issuer) == Round()


def test_a_damaged_mail_is_logged_once_and_removed(issuer: Issuer, alice: User) -> None:
    for user in (alice, a_user(issuer, "bob", "bob@example.com")):
        issuer.administration.mails.password_changed(user, issuer.clock())
    with issuer.database.write() as connection:
        damage = text("UPDATE mails SET kind = 'unknown' WHERE user_id = :user")
        connection.execute(damage, {"user": alice.id})
    with capture_logs() as logged:
        assert deliver(issuer) == Round(delivered=1)
        assert deliver(issuer) == Round()
    assert [line["log_level"] for line in logged if line["event"] == "damaged mail"] == ["error"]
    assert due(issuer) == []


def test_a_mail_that_another_transaction_locks_is_not_waited_for(postgresql: str) -> None:
    with temporary_database(postgresql) as url, closing(Database(url)) as database:
        database.migrate()
        outbox = Outbox(database)
        for number in range(3):
            assert outbox.add(MailKind.RESET_REQUEST, None, str(number), START)
        taken, _ = outbox.claim(START, 10)
        with ThreadPoolExecutor(1) as other, database.write() as connection:
            connection.execute(select(mails).where(mails.c.id == taken[1].id).with_for_update())
            other.submit(outbox.remove, taken).result(timeout=20)
        with database.read() as connection:
            assert connection.scalars(select(mails.c.id)).all() == [taken[1].id]


def test_old_mails_are_not_sent_but_logged_and_removed(
    issuer: Issuer, alice: User, server: MailServer, clock: MovableClock
) -> None:
    issuer.administration.mails.password_changed(alice, issuer.clock())
    clock.advance(hours=1)
    with capture_logs() as logged:
        assert deliver(issuer) == Round()
    assert logged == [
        {"event": "mail too old", "log_level": "warning", "kind": MailKind.PASSWORD_CHANGED, "user": alice.id}
    ]
    assert server.messages == []
    assert due(issuer) == []
    issuer.administration.mails.password_changed(alice, issuer.clock())
    clock.advance(seconds=MAILS_KEPT.total_seconds() + 1)
    prune(issuer.database, issuer.clock())
    assert due(issuer) == []


def test_the_outbox_is_bounded(issuer: Issuer, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DUE_MOST == 10_000
    monkeypatch.setattr("issuer.mail.outbox.DUE_MOST", 2)
    for _ in range(4):
        ask(issuer, "alice")
    assert len(due(issuer)) == 2


def test_notices_leave_room_in_the_outbox_for_mails_that_a_person_asked_for(
    issuer: Issuer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NOTICES_MOST < DUE_MOST
    monkeypatch.setattr("issuer.mail.outbox.NOTICES_MOST", 2)
    for _ in range(4):
        issuer.administration.mails.password_changed(alice, issuer.clock())
    assert due(issuer) == [MailKind.PASSWORD_CHANGED] * 2
    ask(issuer, "alice")
    assert len(due(issuer)) == 3


def test_one_account_does_not_use_up_the_outbox(issuer: Issuer, alice: User) -> None:
    assert OF_ACCOUNT_MOST < NOTICES_MOST
    bob = a_user(issuer, "bob", "bob@example.com")
    for _ in range(OF_ACCOUNT_MOST + 1):
        issuer.administration.mails.password_changed(alice, issuer.clock())
    assert len(due(issuer)) == OF_ACCOUNT_MOST
    issuer.administration.mails.password_changed(bob, issuer.clock())
    assert len(due(issuer)) == OF_ACCOUNT_MOST + 1
