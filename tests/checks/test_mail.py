"""`issuer check` connects to the mail server as the issuer does, and sends nothing."""

import socket
import ssl
from pathlib import Path

import pytest
from support.certificates import certificate
from support.installation import Deployment
from support.mail_server import USER, mail_server

from issuer.fixes import Kind


def reason(deployment: Deployment, url: str) -> str:
    """Return why the server of a URL cannot be used."""
    deployment.set(ISSUER_SMTP_URL=url)
    finding = deployment.one()
    assert finding.fix.kind is Kind.MAIL_SERVER
    return finding.wrong.partition(": ")[2]


def test_without_a_mail_server_none_is_looked_for(deployment: Deployment) -> None:
    assert "mail server" not in {result.name for result in deployment.check()}


def test_a_server_that_answers_is_no_finding_and_gets_no_mail(deployment: Deployment) -> None:
    with mail_server() as server:
        deployment.set(ISSUER_SMTP_URL=server.url)
        assert "mail server" in {result.name for result in deployment.check()}
        assert deployment.found() == []
        assert server.messages == []
        assert reason(deployment, f"{server.url}?starttls=on") == (
            "the server does not offer STARTTLS or authentication"
        )
    assert reason(deployment, server.url) == "Connection refused"


def test_user_and_password_are_tried_over_tls(deployment: Deployment, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path))
    with mail_server(starttls=context, authenticates=True) as server:
        where = f"127.0.0.1:{server.port}?starttls=on"
        right = f"smtp://{USER}:p%40ss%2Fword@{where}"
        assert reason(deployment, right).startswith("the certificate of the server is not valid")
        deployment.set(ISSUER_CA_FILE=str(tmp_path / "cert.pem"))
        assert reason(deployment, f"smtp://{USER}:wrong@{where}") == "the server refused user and password"
        deployment.set(ISSUER_SMTP_URL=right)
        assert deployment.found() == []


def test_a_server_that_says_nothing_is_not_waited_for_long(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.checks.mail.REPLY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        assert reason(deployment, url) == "the server does not answer"
