"""Scenarios: settings and the file .env."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

from issuer.fixes import Kind
from support.components import require_root
from support.fix_scenarios.stage import (
    NOBODY,
    Stage,
    scenario,
    setting,
)
from support.installation import PASSPHRASE, REACHABLE
from support.mail_server import mail_server

setting(Kind.SETTING_VALUE, ISSUER_URL="http://127.0.0.1:8000/")
setting(Kind.POLICY, ISSUER_ACCESS_TOKEN_LIFETIME="90d", ISSUER_ROTATION_PERIOD="1d")
setting(Kind.METRICS_TOKEN_SHORT, ISSUER_METRICS_TOKEN="short")
setting(Kind.UNKNOWN_IN_ENVIRONMENT, issuer_audiance="x")
setting(Kind.URL_NOT_HTTPS, **{**REACHABLE, "ISSUER_URL": "http://issuer.example"})
setting(Kind.URL_WITH_PATH, **{**REACHABLE, "ISSUER_URL": "https://issuer.example/auth"})
setting(Kind.NO_TRUSTED_PROXY, **{**REACHABLE, "ISSUER_TRUSTED_PROXIES": ""})
setting(Kind.AUDIENCE_IS_ISSUER, ISSUER_AUDIENCE="http://127.0.0.1:8000")
setting(Kind.NO_ROTATION, ISSUER_ROTATION_PERIOD="0")
setting(Kind.OPEN_REGISTRATION, **{**REACHABLE, "ISSUER_REGISTRATION": "open"})
setting(Kind.TWICE_IN_ENVIRONMENT, ISSUER_AUDIENCE="https://a.example", issuer_audience="https://b.example")


@scenario(Kind.METRICS_TOKEN_MISSING)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example", 0o644)  # and no end of the line
    stage.deployment.set(
        **{name: value for name, value in REACHABLE.items() if name != "ISSUER_METRICS_TOKEN"}
    )


@scenario(Kind.CA_FILE)
def _(stage: Stage) -> None:
    stage.deployment.set(ISSUER_CA_FILE="nowhere")
    made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 1 -keyout key.pem -out ca.pem"
    subprocess.run(made.split(), cwd=stage.deployment.folder, check=True, capture_output=True)
    stage.fills["=FILE"] = "=ca.pem"


@scenario(Kind.LOGO)
def _(stage: Stage) -> None:
    stage.deployment.set(ISSUER_LOGO="nowhere")
    (stage.deployment.folder / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    stage.fills["=FILE"] = "=logo.svg"


@scenario(Kind.MAIL_SERVER)
def _(stage: Stage) -> None:
    with mail_server() as stopped:
        pass
    stage.deployment.set(ISSUER_SMTP_URL=stopped.url)
    stack = ExitStack()
    stage.request.addfinalizer(stack.close)
    stage.fills["smtps://USER:PASSWORD@HOST:PORT"] = stack.enter_context(mail_server()).url


@scenario(Kind.MISSPELT_IN_FILE)
def _(stage: Stage) -> None:
    stage.write("# a comment\n\nexport issuer_ulr = 'http://127.0.0.1:8000'\n")


@scenario(Kind.UNKNOWN_IN_FILE)
def _(stage: Stage) -> None:
    stage.write('ISSUER_NONSENSE="1\n2"\nISSUER_AUDIENCE=https://a.example\n')


@scenario(Kind.OVERRIDDEN_LINE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\nexport issuer_audience=https://b.example\n")


@scenario(Kind.ENV_OWNER)
def _(stage: Stage) -> None:
    require_root()
    stage.write("ISSUER_AUDIENCE=https://a.example\n")
    os.chown(stage.env, NOBODY, NOBODY)


@scenario(Kind.ENV_WRITABLE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n", 0o664)


@scenario(Kind.ENV_READABLE)
def _(stage: Stage) -> None:
    stage.write(f"ISSUER_KEYS_PASSPHRASE='{PASSPHRASE}'\n", 0o640)


@scenario(Kind.ENV_NOT_A_FILE)
def _(stage: Stage) -> None:
    stage.env.mkdir()


@scenario(Kind.ENV_UNREADABLE)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n", 0o200)
    if os.geteuid() == 0:  # who may read everything
        real = Path.read_bytes

        def refused(path: Path) -> bytes:
            if path.name == ".env" and not path.stat().st_mode & 0o400:
                raise PermissionError(13, "Permission denied")
            return real(path)

        stage.deployment.patch.setattr(Path, "read_bytes", refused)


@scenario(Kind.ENV_ENCODING)
def _(stage: Stage) -> None:
    stage.write(
        "ISSUER_AUDIENCE=https://a.example # f\N{LATIN SMALL LETTER U WITH DIAERESIS}r\n".encode("utf-16")
    )


@scenario(Kind.ENV_BYTE_ORDER_MARK)
def _(stage: Stage) -> None:
    stage.write("ISSUER_AUDIENCE=https://a.example\n".encode("utf-8-sig"))


@scenario(Kind.ENV_LINE)
def _(stage: Stage) -> None:
    stage.write("\n\nISSUER_AUDIENCE: https://a.example\nOTHER='not closed\n")
