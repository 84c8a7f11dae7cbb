"""The background task that sends mails: it runs where a mail server is set, and fails without ending."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from support.defaults import Build
from support.mail_server import MailServer, mail_server
from support.mailing import a_user, sending

from issuer.settings.settings import Settings
from issuer.web.app import create_app


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issuer.web.operation.background.MAIL_POLL", timedelta(seconds=0.02))


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def wait_until(is_reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_reached():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_mails_are_sent_in_the_background_and_counted(
    made: Build, settings: Settings, server: MailServer
) -> None:
    issuer = made(sending(settings, server))
    with TestClient(create_app(issuer)) as web:
        issuer.administration.mails.password_changed(a_user(issuer), issuer.clock())
        wait_until(lambda: bool(server.messages))
        wait_until(lambda: 'issuer_mails_total{outcome="delivered"} 1.0' in web.get("/metrics").text)
    assert server.recipients() == ["alice@example.com"]


def test_a_server_that_fails_delays_no_request_and_is_counted(
    made: Build, settings: Settings, server: MailServer
) -> None:
    server.failing = True
    issuer = made(sending(settings, server))
    with TestClient(create_app(issuer)) as web:
        issuer.administration.mails.password_changed(a_user(issuer), issuer.clock())
        wait_until(lambda: 'issuer_mails_total{outcome="failed"} 1.0' in web.get("/metrics").text)
        assert web.get("/healthz").status_code == 200


def test_without_a_mail_server_there_is_no_such_task(made: Build, settings: Settings) -> None:
    with TestClient(create_app(made(settings))) as web:
        assert "mail" not in web.app.state.supervisor.overdue  # type: ignore[attr-defined]
